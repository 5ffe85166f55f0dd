// Package demoapp is the applications that the examples and the demo run: small
// services that call each other over HTTP, in one program, "serin demoapp NAME".
//
// An application is ordinary: it reads its settings from the environment,
// listens on $PORT, reaches its upstreams through HTTP_PROXY, hands trace
// headers on, logs one JSON line per request and ends cleanly on SIGTERM. It
// knows nothing of Serin and must never learn that it is being released; what
// is wrong with a version is configured (PERCENT_ERROR, DELAY), not coded. It imports
// the standard library alone.
//
// Settings, all by environment:
//
//	PORT           port to listen on; default: the application's own
//	POD_IP         address to listen on besides 127.0.0.1
//	POD_NAME       name shown in answers and logs
//	SERIN_VERSION  version shown in answers and logs; default "v1"
//	PERCENT_ERROR  share of reads that fail with 500, in percent, 0 to 100
//	DELAY          longer that reads take, such as 50ms
//	SEED           makes the draws of PERCENT_ERROR repeatable
//	DB_URL, …      an upstream's address, NAME_URL
//
// Read next: app.go (the table of applications), then music.go for a short one
// and productpage.go for one with a page.
package demoapp
