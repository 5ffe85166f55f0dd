// Caddy is the stock Caddy web server, with its standard modules and nothing
// else, at the version that go.mod pins: one of the proxies that bench/proxy
// measures beside ours.
package main

import (
	"github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func main() { caddycmd.Main() }
