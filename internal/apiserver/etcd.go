package apiserver

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"runtime"
)

// maxSocketPath is what the kernel takes as the path of a unix socket (108
// bytes with the final zero on Linux, 104 on macOS), with a margin.
const maxSocketPath = 100

// database is an etcd inside this process. It listens on unix sockets in a
// directory of the owner's alone, so no port is used and nobody else can reach
// it.
type database struct {
	etcd      *embed.Etcd
	endpoint  string
	socketDir string // temporary, to remove at the end; "" if none
	failed    chan error
}

// openDatabase starts etcd on dir and waits until it answers. What etcd cannot
// go on after (a failing disk) arrives on failed; the data are as of the last
// answered write then.
func openDatabase(ctx context.Context, cfg Config) (*database, error) {
	dir := cfg.DataDir
	db := &database{failed: make(chan error, 1)}
	sockets := dir
	if len(filepath.Join(dir, "client.sock")) > maxSocketPath {
		temp, err := os.MkdirTemp("", "serin-")
		if err != nil {
			return nil, err
		}
		db.socketDir, sockets = temp, temp
	}
	etcd, err := embed.StartEtcd(etcdConfig(dir, sockets, cfg.quotaBytes, db.logger(cfg.Logger)))
	if err != nil {
		db.removeSockets()
		return nil, fmt.Errorf("open the object store in %s: %w", dir, err)
	}
	db.etcd, db.endpoint = etcd, "unix:"+filepath.Join(sockets, "client.sock")
	select {
	case <-etcd.Server.ReadyNotify():
		return db, nil
	case err = <-db.failed:
	case err = <-etcd.Err():
	case <-ctx.Done():
		err = ctx.Err()
	}
	db.close()
	return nil, fmt.Errorf("open the object store in %s: %w", dir, err)
}

func etcdConfig(dir, sockets string, quota int64, logger *zap.Logger) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Name = "serin"
	cfg.Dir = filepath.Join(dir, "etcd")
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger)
	client := url.URL{Scheme: "unix", Path: filepath.Join(sockets, "client.sock")}
	peer := url.URL{Scheme: "unix", Path: filepath.Join(sockets, "peer.sock")}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	// One member needs no patience with others: the first election is over in
	// two ticks.
	cfg.TickMs, cfg.ElectionMs = 20, 200
	// Old revisions serve watches that resume; five minutes of them are
	// Kubernetes' own habit.
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModePeriodic, "5m"
	// etcd keeps the entries since the last snapshot in memory. There is no
	// follower that could be behind.
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 1000, 100
	cfg.QuotaBackendBytes = quota
	return cfg
}

// logger passes etcd's warnings on. etcd ends the process when it cannot write;
// here that becomes an error for the owner of the server, who has children to
// stop.
func (db *database) logger(logger *slog.Logger) *zap.Logger {
	return zap.New(slogCore{logger, db.failed}, zap.WithFatalHook(endGoroutine{}))
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

// endGoroutine ends what called Fatal instead of the process.
type endGoroutine struct{}

func (endGoroutine) OnWrite(*zapcore.CheckedEntry, []zapcore.Field) { runtime.Goexit() }

// closeTimeout: etcd waits for its clients to go; ours are being closed at the
// same time, and every answered write is on disk already.
const closeTimeout = 500 * time.Millisecond

func (db *database) close() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		db.etcd.Close()
	}()
	select {
	case <-done:
	case <-time.After(closeTimeout):
	}
	db.removeSockets()
}

func (db *database) removeSockets() {
	if db.socketDir != "" {
		os.RemoveAll(db.socketDir)
	}
}
