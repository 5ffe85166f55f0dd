// Package e2e plays scripts against the real program, as people use it: it
// starts `serin up` in a directory of its own on free ports, speaks to it with
// the stock kubectl, with serin and over HTTP, and kills it. It must never
// reach inside: no package of Serin is imported.
//
// A script is a file testdata/NAME.txtar: a comment that says which behaviour
// it tells, then commands, then files. The commands of
// github.com/rogpeppe/go-internal/testscript are there (exec, stdout, stderr,
// cmp, env, cd, ! for "must fail", & and wait for the background, and so on),
// and these:
//
//	up [FLAG...]             start serin up in $WORK/data and wait until it is ready;
//	                         sets KUBECONFIG, API and GATEWAY, API_ADDRESS and
//	                         GATEWAY_ADDRESS (the same without the scheme), and XDS.
//	                         ! up: it must refuse
//	down                     end it with SIGTERM; it must exit with 0 within 10 s
//	crash                    end it with SIGKILL
//	kubectl ARG...           the kubectl of `make tools`
//	serin ARG...             the program itself
//	http [FLAG...] METHOD URL [CODE [REGEXP]]
//	                         send one request; a URL that begins with / goes to
//	                         $GATEWAY. CODE is a status, or "refused" when nothing
//	                         may answer; REGEXP must match the body. stdout is the
//	                         body. Flags: -H 'Name: value', -d BODY
//	until [-for DURATION] [-stdout REGEXP] COMMAND ARG...
//	                         repeat kubectl, serin or http until it succeeds and its
//	                         output matches; 2 min unless told otherwise
//	share N URL REGEXP LOW HIGH
//	                         send N requests; between LOW and HIGH percent of the
//	                         bodies must match
//	capture NAME COMMAND ARG...
//	                         like the command alone, and puts its output into $NAME
//	proxy NAME FLAG...       start serin proxy, routed by the running serin up, and wait
//	                         until it serves; its first address is put into $NAME, in
//	                         upper case. It ends with the script
//	envoy NAME FLAG...       start an Envoy with what serin proxy bootstrap makes of the
//	                         flags. Its addresses are best at $LOOPBACK, which no other
//	                         script uses. The condition [envoy] tells whether there is one
//	receiver [FILE...]       start what webhooks, metric providers and chat systems are
//	                         called on; its address is put into $RECEIVER, and in the
//	                         place of $RECEIVER in the files. What is sent to /NAME, or
//	                         with a parameter query=NAME, is answered by 200 and nothing,
//	                         unless "CODE [BODY]", or "never", was sent to /answer/NAME.
//	                         /calls/NAME has a line for each call: method, idempotency
//	                         key, body
//	browse URL [PICTURE.png] load a page in Chromium; stdout is the document it made of
//	                         it. The condition [browser] tells whether there is one
//
// $EXAMPLES is the folder examples, $ANOTHER_DAY a day of the week such as Mon
// that is neither today nor tomorrow. Scripts run side by side, so a script may
// use no fixed port and no file outside of $WORK. What serin up wrote is shown
// when its script fails.
//
//	make build tools
//	go test ./test/e2e -run 'TestScripts/music' -v
//
// Read next: script_test.go for the commands, serin_test.go for the process.
package e2e
