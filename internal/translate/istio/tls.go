package istio

import (
	"cmp"
	"slices"

	networking "istio.io/api/networking/v1alpha3"

	"serin.dev/serin/internal/mesh"
)

// clientTLS translates how endpoints are called by TLS. What is wrong or
// missing never makes the calls less safe: without its authorities an endpoint
// is checked against the system's.
func (t *translator) clientTLS(s *networking.ClientTLSSettings, path, namespace string, r *report) *tlsPart {
	if s == nil {
		return nil
	}
	out := &mesh.ClientTLS{SNI: mesh.CanonicalHost(s.Sni, ""), Insecure: s.InsecureSkipVerify.GetValue()}
	if err := mesh.CheckHost(out.SNI); out.SNI != "" && (err != nil || out.SNI[0] == '*') {
		r.errorf(path+".sni", "%q is not the name of one host", s.Sni)
		out.SNI = ""
	}
	for i, name := range s.SubjectAltNames {
		if name == "" {
			r.errorf(at("%s.subjectAltNames[%d]", path, i), "is empty: remove it")
			continue
		}
		out.SubjectAlts = append(out.SubjectAlts, name)
	}
	switch s.Mode {
	case networking.ClientTLSSettings_DISABLE:
		return &tlsPart{}
	case networking.ClientTLSSettings_ISTIO_MUTUAL:
		r.warnf(path+".mode", "ISTIO_MUTUAL is not supported yet: endpoints are called without TLS")
		return &tlsPart{}
	case networking.ClientTLSSettings_SIMPLE:
	case networking.ClientTLSSettings_MUTUAL:
		if s.CredentialName == "" && s.ClientCertificate == "" {
			r.errorf(path+".credentialName", "is empty: name the Secret with the key pair to show")
		}
	default:
		r.errorf(path+".mode", "unknown mode %d: use DISABLE, SIMPLE or MUTUAL", s.Mode)
	}
	for _, file := range [...]struct{ field, value string }{
		{"clientCertificate", s.ClientCertificate}, {"privateKey", s.PrivateKey}, {"caCertificates", s.CaCertificates}, {"caCrl", s.CaCrl},
	} {
		if file.value != "" {
			r.warnf(path+"."+file.field, "files are not supported yet: it has no effect; put it into a Secret and name that by credentialName")
		}
	}
	if s.CredentialName != "" && t.out.Snapshot != nil {
		here := path + ".credentialName"
		mutual := s.Mode == networking.ClientTLSSettings_MUTUAL
		if mutual {
			out.Certificate = t.keyPair(s.CredentialName, namespace, here, r)
		}
		if !out.Insecure && (!mutual || out.Certificate != "") {
			out.CA = t.authorities(s.CredentialName, namespace, here, r)
		}
	}
	return &tlsPart{out}
}

// endTLS adds the certificate for some hosts of a gateway's port, and reports
// false when that cannot be: then the hosts are not served.
func (t *translator) endTLS(p *gatewayPort, s *networking.ServerTLSSettings, hosts []serverHost, path, namespace string, r *report) bool {
	credential, field, ok := serverCredential(s, path, r)
	least, most, sound := tlsVersions(s, path, r)
	if !ok || !sound {
		return false
	}
	if t.out.Snapshot == nil {
		return true // references are not looked at
	}
	out := mesh.ServerTLS{Min: least, Max: most, Certificate: t.keyPair(credential, namespace, path+field, r)}
	if out.Certificate == "" {
		return false
	}
	if s.Mode == networking.ServerTLSSettings_MUTUAL || s.Mode == networking.ServerTLSSettings_OPTIONAL_MUTUAL {
		out.Optional = s.Mode == networking.ServerTLSSettings_OPTIONAL_MUTUAL
		if s.CaCertCredentialName != "" {
			out.ClientCA = t.authorities(s.CaCertCredentialName, namespace, path+".caCertCredentialName", r)
		} else {
			out.ClientCA = t.authorities(credential, namespace, path+field, r)
		}
		if out.ClientCA == "" {
			return false
		}
	}
	for _, h := range hosts {
		ended := func(other mesh.ServerTLS) bool { return slices.Contains(other.Hosts, h.host) }
		if !slices.Contains(out.Hosts, h.host) && !slices.ContainsFunc(p.tls, ended) {
			out.Hosts = append(out.Hosts, h.host)
		}
	}
	if len(out.Hosts) > 0 {
		p.tls = append(p.tls, out)
	}
	return true
}

// serverCredential returns the name of the Secret that a server shows, with the
// field that says so.
func serverCredential(s *networking.ServerTLSSettings, path string, r *report) (name, field string, ok bool) {
	name, field = s.CredentialName, ".credentialName"
	if name == "" && len(s.CredentialNames) > 0 {
		name, field = s.CredentialNames[0], ".credentialNames"
		if len(s.CredentialNames) > 1 {
			r.warnf(path+field, "several are not supported yet: %q is used", name)
		}
	}
	files := s.ServerCertificate != "" || s.PrivateKey != "" || s.CaCertificates != "" || len(s.TlsCertificates) > 0
	switch {
	case name == "" && files:
		r.warnf(path, "files are not supported yet: the hosts are not served; put them into a Secret and name that by credentialName")
	case name == "":
		r.errorf(path+field, "is empty: name the Secret with the certificate")
	case len(s.SubjectAltNames)+len(s.VerifyCertificateSpki)+len(s.VerifyCertificateHash) > 0, s.CaCrl != "", s.InsecureSkipVerify.GetValue():
		// untranslated says so
	default:
		return name, field, true
	}
	return name, field, false
}

func tlsVersions(s *networking.ServerTLSSettings, path string, r *report) (least, most mesh.TLSVersion, ok bool) {
	least, most = mesh.TLSVersion(s.MinProtocolVersion), mesh.TLSVersion(s.MaxProtocolVersion)
	switch {
	case s.MinProtocolVersion < 0 || s.MinProtocolVersion > networking.ServerTLSSettings_TLSV1_3:
		r.errorf(path+".minProtocolVersion", "unknown version %d", s.MinProtocolVersion)
	case s.MaxProtocolVersion < 0 || s.MaxProtocolVersion > networking.ServerTLSSettings_TLSV1_3:
		r.errorf(path+".maxProtocolVersion", "unknown version %d", s.MaxProtocolVersion)
	case most != mesh.TLSDefault && most < cmp.Or(least, mesh.TLS12):
		r.errorf(path+".maxProtocolVersion", "is below the least version, %s: lower minProtocolVersion or raise this", cmp.Or(least, mesh.TLS12))
	default:
		return least, most, true
	}
	return least, most, false
}
