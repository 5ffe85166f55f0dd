package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// dialTimeout bounds the look whether anything listens on this machine; a
// loopback connection is made or refused within a millisecond.
const dialTimeout = 2 * time.Second

// defaultAPI is where serin up serves unless told otherwise.
const defaultAPI = "https://127.0.0.1:7443"

// api is the way to the Kubernetes API that the flags choose. It is a
// genericclioptions.RESTClientGetter, so the object commands use it as well.
type api struct {
	flags *genericclioptions.ConfigFlags
	opts  *options
}

func newAPI(opts *options) *api {
	flags := genericclioptions.NewConfigFlags(true)
	if cache, err := os.UserCacheDir(); err == nil {
		// Not the one of kubectl: another cluster may have answered on our
		// port before.
		*flags.CacheDir = filepath.Join(cache, "serin")
	}
	flags.WrapConfigFn = func(c *rest.Config) *rest.Config {
		c.WarningHandler = rest.NewWarningWriter(opts.ErrOut, rest.WarningWriterOptions{Deduplicate: true})
		c.UserAgent = "serin"
		return c
	}
	return &api{flags, opts}
}

// addTo gives cmd and its children the flags that choose a namespace, and a
// look before they run whether the API is there. Credentials belong into a
// kubeconfig, so there are no flags for them.
func (a *api) addTo(cmd *cobra.Command) {
	a.addFlags(cmd.PersistentFlags())
	cmd.PersistentPreRunE = func(*cobra.Command, []string) error { return a.connect() }
}

func (a *api) addFlags(flags *pflag.FlagSet) {
	flags.StringVarP(a.flags.Namespace, "namespace", "n", "", "namespace (default: that of the kubeconfig, else \"default\")")
	flags.StringVar(a.flags.Context, "context", "", "context of the kubeconfig")
}

// connect reports in the user's terms that there is no API to talk to.
//
// Only addresses of this machine are tried: for others a proxy may be on the
// way, and the first request tells as well.
func (a *api) connect() error {
	_, ours, err := a.opts.kubeconfig()
	if err != nil {
		return err
	}
	config, err := a.ToRESTConfig()
	switch {
	case ours && errors.Is(err, fs.ErrNotExist):
		return noAPI(defaultAPI)
	case err != nil:
		return err
	}
	u, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return fmt.Errorf("kubeconfig: server %q: %w", config.Host, err)
	}
	if !isLoopback(u) {
		return nil
	}
	conn, err := net.DialTimeout("tcp", u.Host, dialTimeout)
	switch {
	case err == nil:
		return conn.Close()
	case ours:
		return noAPI(u.String())
	default:
		return fmt.Errorf("nothing answers at %s: start it, or choose another API with --kubeconfig or $KUBECONFIG", u)
	}
}

func noAPI(address string) error {
	return fmt.Errorf("no Serin API at %s: start it with 'serin up'", address)
}

func isLoopback(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Port() != "" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

// locate hands the flags that cobra has read on to the library.
func (a *api) locate() {
	if path, _, err := a.opts.kubeconfig(); err == nil {
		*a.flags.KubeConfig = path
	}
}

// namespace is where a command works unless it asks for all.
func (a *api) namespace() (string, error) {
	ns, _, err := a.ToRawKubeConfigLoader().Namespace()
	return ns, err
}

func (a *api) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	a.locate()
	return a.flags.ToRawKubeConfigLoader()
}

func (a *api) ToRESTConfig() (*rest.Config, error) {
	a.locate()
	return a.flags.ToRESTConfig()
}

func (a *api) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	a.locate()
	return a.flags.ToDiscoveryClient()
}

func (a *api) ToRESTMapper() (meta.RESTMapper, error) {
	a.locate()
	return a.flags.ToRESTMapper()
}
