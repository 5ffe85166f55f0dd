package metric

import (
	"io"
	"net/http"
	"testing"
)

func TestWeb(t *testing.T) {
	c := Config{Type: "web", Credentials: secret("token", "tok", "header.X-Key", "key\n")}
	c.Address = serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		switch {
		case r.Header.Get("Authorization") != "Bearer tok" || r.Header.Get("X-Key") != "key" || r.FormValue("tenant") != "7":
			answer(w, http.StatusUnauthorized, "who are you?")
		case r.URL.Path == "/base/stats" && r.FormValue("app") == "music":
			answer(w, http.StatusOK, `{"data":{"rate":0.5,"text":"12.5","ok":true,"state":"green","none":null,"nan":"NaN","list":[1,2],"pods":[{"name":"a","cpu":3},{"name":"b","cpu":4}]}}`)
		case r.URL.Path == "/base/ask" && r.Method == http.MethodPost && r.Header.Get("Content-Type") == "application/json" && r.Header.Get("X-Team") == "shop":
			answer(w, http.StatusOK, string(body))
		case r.URL.Path == "/base/put" && r.Method == http.MethodPut && r.Header.Get("Content-Type") == "text/plain":
			answer(w, http.StatusOK, "1")
		case r.URL.Path == "/base" || r.URL.Path == "/base/":
			answer(w, http.StatusOK, "42")
		default:
			http.NotFound(w, r)
		}
	}) + "/base?tenant=7"
	place := "web at " + c.Address[:len(c.Address)-len("?tenant=7")] + ": "
	at := func(path string) string { return "path: /stats?app=music\njsonPath: '" + path + "'" }
	stories{
		{"a number", at("{.data.rate}"), "0.5"},
		{"as Argo writes it", at("{$.data.rate}"), "0.5"},
		{"without braces", at("$.data.rate"), "0.5"},
		{"a number in quotes", at("{.data.text}"), "12.5"},
		{"yes or no", at("{.data.ok}"), "1"},
		{"the value that is good", at("{.data.state}") + "\nsuccess: green", "1"},
		{"another value", at("{.data.state}") + "\nsuccess: blue", "0"},
		{"yes is good", at("{.data.ok}") + "\nsuccess: true", "1"},
		{"a number is good", at("{.data.rate}") + "\nsuccess: 0.5", "1"},
		{"an object is good", at("{.data.pods[1]}") + "\nsuccess: {name: b, cpu: 4}", "1"},
		{"a filter", at(`{.data.pods[?(@.name=="b")].cpu}`), "4"},
		{"the whole answer", "{}", "42"},
		{"null", at("{.data.none}"), place + "no values"},
		{"not a number", at("{.data.nan}"), place + "no values"},
		{"nothing there", at("{.data.missing.deeply}"), place + "no values"},
		{"several values", at("{.data.pods[*].cpu}"), place + "jsonPath leads to 2 values: lead it to one"},
		{"no number", at("{.data.state}"), place + `the value is "green", no number: correct jsonPath, or say in success which value is good`},
		{"a list", at("{.data.list}"), place + "the value is [1,2], no number: correct jsonPath, or say in success which value is good"},
		{"a path into nothing", at("{.data.rate.x}"), place + "no values"},
		{"a body is posted", "path: /ask\nheaders: {X-Team: shop}\nbody: '{\"n\": 9}'\njsonPath: .n", "9"},
		{"another method", "path: put\nmethod: PUT\nheaders: {Content-Type: text/plain}\nbody: x", "1"},
		{"another path", "path: /other", place + "404 Not Found: 404 page not found: check the address"},
		{"a misspelt field", "path: /\njsonpat: x", place + `query: unknown field "jsonpat": write it as YAML with path, method, headers, body, jsonPath and success`},
		{"a broken path", at("{.data"), place + "query: jsonPath: unclosed action: write it as kubectl has it, such as {.data.errors}"},
		{"a loop", at("{range .data}{.x}{end}"), place + "query: jsonPath: {range} gives several values: lead to one"},
		{"another host", "path: http://elsewhere/x", place + `path "http://elsewhere/x": write what follows the address, such as /stats?app=music`},
		{"another host, hidden", "path: //elsewhere/x", place + `path "//elsewhere/x": write what follows the address, such as /stats?app=music`},
		{"a method of its own", "method: 'GET /'", place + `net/http: invalid method "GET /"`},
	}.tell(t, c)
	if got := online(t, c); got != "online" {
		t.Error(got)
	}
}

// TestWebByPasswordOrHeader: any one way to log in suffices.
func TestWebByPasswordOrHeader(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		username, password, _ := r.BasicAuth()
		if username == "anna" && password == "pass" || r.Header.Get("Api-Key") == "k" {
			answer(w, http.StatusOK, "1")
			return
		}
		answer(w, http.StatusUnauthorized, "")
	})
	for _, data := range []map[string][]byte{secret("username", "anna", "password", "pass"), secret("header.api-key", "k")} {
		if got := ask(t, Config{Type: "web", Address: address, Credentials: data}, "{}"); got != "1" {
			t.Errorf("with %s: %s", data, got)
		}
	}
}
