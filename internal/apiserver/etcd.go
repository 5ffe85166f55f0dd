package apiserver

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	serveroptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"
	"k8s.io/client-go/tools/cache"
)

// database is where objects are kept: an etcd inside this process, called
// directly and listening nowhere, or an etcd cluster elsewhere. All kinds share
// one client.
type database struct {
	client *kubernetes.Client
	stop   func()
	failed chan error // what the etcd inside cannot go on after
}

// openDatabase opens what cfg asks for and waits until it answers. A failing
// disk arrives on failed later; the data are as of the last answered write then.
func openDatabase(ctx context.Context, cfg Config) (*database, error) {
	db := &database{failed: make(chan error, 1)}
	logger := zap.New(slogCore{cfg.Logger, db.failed}, zap.WithFatalHook(endGoroutine{}))
	if cfg.externalEtcd() {
		if err := db.dial(ctx, cfg.EtcdServers, logger); err != nil {
			return nil, fmt.Errorf("object store at %v: %w; check --etcd-servers", cfg.EtcdServers, err)
		}
		return db, nil
	}
	if err := db.start(ctx, cfg, logger); err != nil {
		return nil, fmt.Errorf("open the object store in %s: %w", cfg.DataDir, err)
	}
	return db, nil
}

// dialTimeout is how long an etcd cluster may take to answer at start.
const dialTimeout = 5 * time.Second

func (db *database) dial(ctx context.Context, servers []string, logger *zap.Logger) error {
	client, err := kubernetes.New(clientv3.Config{Endpoints: servers, DialTimeout: dialTimeout, Logger: logger})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if _, err := client.Client.Get(ctx, "/registry"); err != nil {
		client.Close()
		return err
	}
	compactor := etcd3.StartCompactorPerEndpoint(client.Client, storagebackend.DefaultCompactInterval)
	db.client = client
	db.stop = func() {
		compactor.Stop()
		client.Close()
	}
	return nil
}

func (db *database) start(ctx context.Context, cfg Config, logger *zap.Logger) error {
	etcd, err := embed.StartEtcd(etcdConfig(cfg, logger))
	if err != nil {
		return err
	}
	client := &kubernetes.Client{Client: v3client.New(etcd.Server)}
	client.Kubernetes = client
	db.client = client
	db.stop = func() {
		client.Close()
		etcd.Close()
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return nil
	case err = <-db.failed:
	case err = <-etcd.Err():
	case <-ctx.Done():
		err = ctx.Err()
	}
	db.close()
	return err
}

func etcdConfig(cfg Config, logger *zap.Logger) *embed.Config {
	etcd := embed.NewConfig()
	etcd.Name = "serin"
	etcd.Dir = filepath.Join(cfg.DataDir, "etcd")
	etcd.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger)
	// A member must have an address, but nobody listens on it.
	address := []url.URL{{Scheme: "http", Host: "localhost:0"}}
	etcd.ListenClientUrls, etcd.AdvertiseClientUrls = nil, nil
	etcd.ListenPeerUrls, etcd.AdvertisePeerUrls = nil, address
	etcd.InitialCluster = etcd.InitialClusterFromName(etcd.Name)
	// One member needs no patience with others: its election is over in two
	// ticks.
	etcd.TickMs, etcd.ElectionMs = 20, 200
	// Old revisions serve watches that resume; five minutes of them are
	// Kubernetes' own habit.
	etcd.AutoCompactionMode, etcd.AutoCompactionRetention = embed.CompactorModePeriodic, "5m"
	// etcd keeps the entries since the last snapshot in memory. There is no
	// follower that could be behind.
	etcd.SnapshotCount, etcd.SnapshotCatchUpEntries = 1000, 100
	etcd.QuotaBackendBytes = cfg.quotaBytes
	return etcd
}

// closeTimeout bounds the wait for etcd to end; every answered write is on disk
// already.
const closeTimeout = 500 * time.Millisecond

func (db *database) close() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		db.stop()
	}()
	select {
	case <-done:
	case <-time.After(closeTimeout):
	}
}

// storageOptions opens the storage of each kind on the shared client. Left to
// itself, the generic server would dial a connection per kind.
type storageOptions struct {
	generic.RESTOptionsGetter
	client *kubernetes.Client
}

// options opens storage in this database.
func (db *database) options(etcd *serveroptions.EtcdOptions) generic.RESTOptionsGetter {
	return storageOptions{etcd.CreateRESTOptionsGetter(&serveroptions.SimpleStorageFactory{StorageConfig: etcd.StorageConfig}, nil), db.client}
}

func (o storageOptions) GetRESTOptions(resource schema.GroupResource, example apiruntime.Object) (generic.RESTOptions, error) {
	options, err := o.RESTOptionsGetter.GetRESTOptions(resource, example)
	options.Decorator = o.open
	return options, err
}

func (o storageOptions) open(config *storagebackend.ConfigForResource, prefix string, _ func(apiruntime.Object) (string, error),
	newFunc, newListFunc func() apiruntime.Object, _ storage.AttrFunc, _ storage.IndexerFuncs, _ *cache.Indexers,
) (storage.Interface, factory.DestroyFunc, error) {
	versioner := storage.APIObjectVersioner{}
	s, err := etcd3.New(o.client, nil, config.Codec, newFunc, newListFunc, config.Prefix, prefix, config.GroupResource,
		identity.NewEncryptCheckTransformer(), config.LeaseManagerConfig, etcd3.NewDefaultDecoder(config.Codec, versioner), versioner)
	if err != nil {
		return nil, nil, err
	}
	return s, sync.OnceFunc(s.Close), nil // subresources share a storage
}

// slogCore writes zap entries to slog, quietly: what is worth a user's
// attention is returned as errors.
type slogCore struct {
	logger *slog.Logger
	failed chan error
}

func (c slogCore) Enabled(l zapcore.Level) bool      { return l >= zapcore.WarnLevel }
func (c slogCore) With([]zapcore.Field) zapcore.Core { return c }
func (c slogCore) Sync() error                       { return nil }

func (c slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	values := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(values)
	}
	c.logger.Debug("etcd: "+e.Message, "level", e.Level.String(), "fields", values.Fields)
	if e.Level == zapcore.FatalLevel {
		select {
		case c.failed <- fmt.Errorf("the object store failed: %s: %v", e.Message, values.Fields["error"]):
		default: // the first failure is the cause
		}
	}
	return nil
}

// endGoroutine ends the goroutine that called Fatal. etcd ends the process when
// it cannot write; the owner of this server has children to stop first.
type endGoroutine struct{}

func (endGoroutine) OnWrite(*zapcore.CheckedEntry, []zapcore.Field) { runtime.Goexit() }
