package e2e

import (
	"bufio"
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestAProxyOutlivesTheReaderOfItsLog: a log shipper that ends takes no
// connection of a gateway with it.
func TestAProxyOutlivesTheReaderOfItsLog(t *testing.T) {
	t.Parallel()
	serin := findTools(t).serin
	up, addresses, err := startSerin(serin, t.TempDir(), os.Environ(), nil)
	defer up.stop(syscall.SIGTERM)
	if err != nil {
		t.Fatalf("%v\n%s", err, up.output.String())
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(serin, "proxy", "--xds", addresses.XDS, "--gateway", "80=127.0.0.1:0", "--access-log", "json")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = writer, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(reader).ReadString('\n')
	found := proxyAddress.FindStringSubmatch(line)
	if err != nil || found == nil {
		t.Fatalf("first line %q, %v", line, err)
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		resp, err := http.Get("http://" + found[1] + "/")
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("request %d: code %d, want 404", i, resp.StatusCode)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("serin proxy ended with %v", err)
	}
	if n := strings.Count(said.String(), "access log cannot be written"); n != 1 {
		t.Errorf("the loss is told of %d times, want once:\n%s", n, said.String())
	}
}
