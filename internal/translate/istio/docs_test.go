package istio

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"
)

// TestTheReferenceHasEveryField: the page that says what of Istio is understood
// has a row for each field of the kinds, and says "no" of those, and only those,
// that are not translated.
func TestTheReferenceHasEveryField(t *testing.T) {
	page, err := os.ReadFile("../../../docs/reference/istio.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []struct {
		name   string
		spec   interface{ ProtoReflect() protoreflect.Message }
		fields fields
	}{
		{"VirtualService", &networking.VirtualService{}, virtualServiceFields()},
		{"DestinationRule", &networking.DestinationRule{}, destinationRuleFields()},
		{"Gateway", &networking.Gateway{}, gatewayFields()},
		{"ServiceEntry", &networking.ServiceEntry{}, serviceEntryFields()},
		{"WorkloadEntry", &networking.WorkloadEntry{}, workloadEntryFields()},
		{"AuthorizationPolicy", &security.AuthorizationPolicy{}, authorizationPolicyFields()},
	} {
		_, section, _ := strings.Cut(string(page), "\n## "+kind.name+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		c := coverage{T: t, kind: kind.name, rows: map[string]string{}}
		for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (\\w+) \\|").FindAllStringSubmatch(section, -1) {
			c.rows[m[1]] = m[2]
		}
		c.walk(kind.spec.ProtoReflect().Descriptor(), kind.fields, "")
		for path := range c.rows {
			if !slices.Contains(c.seen, path) {
				t.Errorf("%s: the page has a row for %s, which is no field or is covered by another row", kind.name, path)
			}
		}
	}
}

type coverage struct {
	*testing.T
	kind string
	rows map[string]string // by path: yes, no, …
	seen []string
}

func (c *coverage) walk(d protoreflect.MessageDescriptor, known fields, above string) {
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		path := above + fd.JSONName()
		if path == "subsets.trafficPolicy" {
			continue // as trafficPolicy
		}
		c.seen = append(c.seen, path)
		below, ok := known[fd.JSONName()]
		word, listed := c.rows[path]
		// Of these a message of its own says that they have no effect.
		files := c.kind == "Gateway" && slices.Contains([]string{"serverCertificate", "privateKey", "caCertificates", "tlsCertificates"}, fd.JSONName())
		switch {
		case listed && (word == "no") != (!ok || files):
			c.Errorf("%s: the page says %q of %s, and translated is %t", c.kind, word, path, ok)
		case !listed && (!ok || below == nil):
			c.Errorf("%s: the page has no row for %s", c.kind, path)
		case !listed:
			c.walk(fd.Message(), below, path+".")
		}
	}
}
