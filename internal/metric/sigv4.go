package metric

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// awsKeys are what requests to AWS are signed with.
type awsKeys struct {
	id, secret string
	session    string // empty for keys that do not expire
}

// sign adds AWS's signature, version 4, to a request without escapes in its
// path. All headers that it has by now are signed.
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html)
func (k awsKeys) sign(req *http.Request, body, region, service string, now time.Time) {
	const layout = "20060102T150405Z"
	stamp := now.UTC().Format(layout)
	req.Header.Set("X-Amz-Date", stamp)
	if k.session != "" {
		req.Header.Set("X-Amz-Security-Token", k.session)
	}
	headers := map[string]string{"host": req.URL.Host}
	names := []string{"host"}
	for name, values := range req.Header {
		name = strings.ToLower(name)
		names = append(names, name)
		headers[name] = strings.Join(values, ",")
	}
	slices.Sort(names)
	signed := strings.Join(names, ";")

	var canonical strings.Builder
	path := req.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	query := strings.ReplaceAll(req.URL.Query().Encode(), "+", "%20")
	fmt.Fprintf(&canonical, "%s\n%s\n%s\n", req.Method, path, query)
	for _, name := range names {
		fmt.Fprintf(&canonical, "%s:%s\n", name, strings.Join(strings.Fields(headers[name]), " "))
	}
	fmt.Fprintf(&canonical, "\n%s\n%s", signed, hexSum(body))

	day := stamp[:8]
	scope := strings.Join([]string{day, region, service, "aws4_request"}, "/")
	toSign := strings.Join([]string{"AWS4-HMAC-SHA256", stamp, scope, hexSum(canonical.String())}, "\n")
	key := []byte("AWS4" + k.secret)
	for _, part := range []string{day, region, service, "aws4_request", toSign} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	req.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s",
		k.id, scope, signed, hex.EncodeToString(key)))
}

func hexSum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
