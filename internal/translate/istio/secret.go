package istio

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"serin.dev/serin/internal/mesh"
)

// gatewayNamespace is where Istio's own gateway runs, and so where its users
// put the Secrets that Gateways of all namespaces refer to.
const gatewayNamespace = "istio-system"

// authoritiesSuffix is of a Secret with the authorities for the Secret with the
// key pair.
const authoritiesSuffix = "-cacert"

// SecretKeys are the keys of a Secret's data that are looked at: the names that
// kubernetes.io/tls has, and those of Istio's generic Secrets.
func SecretKeys() []string { return []string{"tls.crt", "tls.key", "ca.crt", "cert", "key", "cacert"} }

// certificateOf reads a Secret. What it holds is valid by itself.
func certificateOf(s *corev1.Secret) (*mesh.Certificate, error) {
	first := func(names ...string) []byte {
		for _, name := range names {
			if data := s.Data[name]; len(data) > 0 {
				return data
			}
		}
		return nil
	}
	c := &mesh.Certificate{Chain: first("tls.crt", "cert"), Key: first("tls.key", "key"), CA: first("ca.crt", "cacert")}
	return c, c.Validate()
}

// certificate finds the Secret that an object refers to by name, in the
// object's namespace or else in gatewayNamespace. A Secret that is broken stays
// what it was when it was last good, and is an error all the same.
func (t *translator) certificate(name, namespace string) (key string, c *mesh.Certificate, err error) {
	var s *corev1.Secret
	for _, ns := range []string{namespace, gatewayNamespace} {
		if s = t.secrets[ns+"/"+name]; s != nil {
			break
		}
	}
	if s == nil {
		return "", nil, fmt.Errorf("unknown Secret %q%s in namespace %s: create it", name,
			didYouMean(namespace+"/"+name, namespace+"/"+name, slices.Collect(maps.Keys(t.secrets))), namespace)
	}
	origin := originOf(s)
	if c, err = certificateOf(s); err == nil {
		t.out.Good[origin] = s
	} else {
		err = fmt.Errorf("secret %s/%s: %w", s.Namespace, s.Name, err)
		last, known := t.in.Previous[origin].(*corev1.Secret)
		if !known {
			return "", nil, err
		}
		t.out.Good[origin] = last
		if before, broken := certificateOf(last); broken == nil {
			c = before
		} else {
			return "", nil, err
		}
	}
	return s.Namespace + "/" + s.Name, c, err
}

// use puts a certificate into the snapshot and returns its name there.
func (t *translator) use(key string, c *mesh.Certificate) string {
	if t.out.Snapshot.Certificates == nil {
		t.out.Snapshot.Certificates = map[string]*mesh.Certificate{}
	}
	t.out.Snapshot.Certificates[key] = c
	return key
}

// keyPair returns the name in the snapshot of a Secret's key pair; "" when
// there is none, which is reported.
func (t *translator) keyPair(name, namespace, path string, r *report) string {
	key, c, err := t.certificate(name, namespace)
	if err != nil {
		r.errorf(path, "%v", err)
	}
	if c == nil {
		return ""
	}
	if len(c.Chain) == 0 {
		r.errorf(path, "Secret %s has no key pair: add tls.crt and tls.key", key)
		return ""
	}
	return t.use(key, c)
}

// authorities returns the name in the snapshot of the authorities that belong
// to a Secret: those of the Secret with the suffix, else its own; "" when there
// are none, which is reported.
func (t *translator) authorities(name, namespace, path string, r *report) string {
	if key, c, err := t.certificate(name+authoritiesSuffix, namespace); err == nil && len(c.CA) > 0 {
		return t.use(key, c)
	}
	key, c, err := t.certificate(name, namespace)
	switch {
	case c == nil:
		r.errorf(path, "%v", err)
		return ""
	case len(c.CA) == 0:
		r.errorf(path, "Secret %s has no authorities: add ca.crt, or a Secret %q", key, name+authoritiesSuffix)
		return ""
	}
	return t.use(key, c)
}
