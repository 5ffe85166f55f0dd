package apiserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// A certificate is made anew when less than renewBefore is left of its life:
// nobody keeps one process running for a month without a restart that way, and
// kubeconfig is rewritten with it.
const (
	certLife    = 365 * 24 * time.Hour
	renewBefore = 30 * 24 * time.Hour
)

// credentials are what clients need to trust and be trusted. They live in the
// data directory, so that a kubeconfig stays good across restarts.
type credentials struct {
	cert, key []byte // PEM; the certificate is its own authority
	token     string
}

func loadCredentials(dir string, host string) (credentials, error) {
	var c credentials
	var err error
	if c.cert, c.key, err = loadCertificate(dir, host); err != nil {
		return c, err
	}
	path := filepath.Join(dir, "token")
	data, err := os.ReadFile(path)
	if c.token = strings.TrimSpace(string(data)); err == nil && c.token != "" {
		return c, nil
	}
	c.token = rand.Text()
	return c, writePrivate(path, []byte(c.token+"\n"))
}

func loadCertificate(dir, host string) (cert, key []byte, err error) {
	certPath, keyPath := filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	if pair, err := tls.LoadX509KeyPair(certPath, keyPath); err == nil &&
		pair.Leaf.VerifyHostname(host) == nil && time.Until(pair.Leaf.NotAfter) > renewBefore {
		cert, err1 := os.ReadFile(certPath)
		key, err2 := os.ReadFile(keyPath)
		if err1 == nil && err2 == nil {
			return cert, key, nil
		}
	}
	if cert, key, err = newCertificate(host); err != nil {
		return nil, nil, fmt.Errorf("certificate: %w", err)
	}
	if err := writePrivate(keyPath, key); err != nil {
		return nil, nil, err
	}
	return cert, key, writePrivate(certPath, cert)
}

func newCertificate(host string) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "serin"},
		NotBefore:             now.Add(-time.Hour), // clocks of a VM and its host may differ
		NotAfter:              now.Add(certLife),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = append(template.IPAddresses, ip)
	} else if host != "" {
		template.DNSNames = append(template.DNSNames, host)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), nil
}

// writeKubeconfig writes a kubeconfig with one context, namespace default.
func (c credentials) writeKubeconfig(path, url string) error {
	const name = "serin"
	config := clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: url, CertificateAuthorityData: c.cert}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {Token: c.token}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name, Namespace: "default"}},
		CurrentContext: name,
	}
	data, err := clientcmd.Write(config)
	if err != nil {
		return err
	}
	return writePrivate(path, data)
}

// writePrivate replaces a file in one step, so that a reader sees the old or
// the new one, and a full disk leaves the old one.
func writePrivate(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
