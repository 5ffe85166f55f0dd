package apiserver

import (
	"net/url"
	"strings"
	"testing"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Two servers on one etcd cluster serve the same objects, whichever takes the
// write: that is what high availability is made of.
func TestServersShareAnEtcdCluster(t *testing.T) {
	cfg := embed.NewConfig()
	cfg.Dir = t.TempDir()
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	free := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = free, free
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = free, free
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	<-etcd.Server.ReadyNotify()
	cluster := []string{"http://" + etcd.Clients[0].Addr().String()}

	one, two := start(t, Config{EtcdServers: cluster}), start(t, Config{EtcdServers: cluster})
	w, err := client(t, two.RESTConfig()).CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=shared"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	made, err := client(t, one.RESTConfig()).CoreV1().ConfigMaps("default").Create(t.Context(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "shared"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	event := <-w.ResultChan()
	if seen, ok := event.Object.(*corev1.ConfigMap); !ok || seen.UID != made.UID {
		t.Errorf("the other server saw %v; want the object with UID %s", event, made.UID)
	}
}

func TestAnAbsentEtcdClusterIsNamed(t *testing.T) {
	_, err := Start(t.Context(), Config{
		DataDir: t.TempDir(), Listen: "127.0.0.1:0",
		EtcdServers: []string{"http://127.0.0.1:1"}, // nobody may listen on port 1
	})
	if err == nil || !strings.Contains(err.Error(), "object store at [http://127.0.0.1:1]") || !strings.Contains(err.Error(), "check --etcd-servers") {
		t.Errorf("Start: %v; want the address and the flag", err)
	}
}
