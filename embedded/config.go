// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"google.golang.org/grpc"
)

// Etcd preallocates its write-ahead log in files of 64 MB, one in use and one in
// reserve, and reads the last one whole when it starts. A quarter of that is
// plenty for one machine, and starts half a second sooner after 200,000 commits.
// Set once and for all, since etcd reads the variable as it runs.
func init() { wal.SegmentSizeBytes = 16 << 20 }

// givenUp says what to do about files that etcd could not use.
func givenUp(reason string) error {
	if strings.Contains(reason, syscall.ENOSPC.Error()) {
		return errors.Newf("the disk is full (%s): free some space there and start again", reason)
	}
	return errors.Newf("etcd gave up over the files there (%s): if they are damaged, move the data directory away and restore it from a backup", reason)
}

// startEtcd returns an etcd that listens, but may have no leader yet.
//
// Etcd answers damaged files with a panic or an exit of the process. As far as
// that happens on this goroutine it becomes an error here.
func startEtcd(running context.Context, at place, opts Options) (etcd *embed.Etcd, err error) {
	var started atomic.Bool
	defer started.Store(true)
	defer func() {
		if r := recover(); r != nil {
			etcd, err = nil, givenUp(fmt.Sprint(r))
		}
	}()
	cfg := config(at, opts)
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapTo(running, opts, &started))
	cfg.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ChainStreamInterceptor(endWith(running))}
	return embed.StartEtcd(cfg)
}

// config is the etcd of one member that one machine needs.
func config(at place, opts Options) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Name = "ipamlog"
	cfg.Dir = at.home
	cfg.LogLevel = "warn"

	cfg.ListenClientUrls = []url.URL{at.url()}
	cfg.AdvertiseClientUrls = []url.URL{at.url()}
	cfg.EnableGRPCGateway = false

	// A member must have a peer address, but a lone one never listens there.
	cfg.ListenPeerUrls = nil
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "unix", Host: "no-peers"}}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)

	cfg.TickMs = opts.TickMs
	cfg.ElectionMs = 5 * opts.TickMs // the least etcd allows: nobody competes
	cfg.UnsafeNoFsync = opts.NoFsync

	// Raft keeps entries in memory for members that lag. There are none, so
	// a short tail does: it bounds memory and what a restart has to replay.
	cfg.SnapshotCount = 5000
	cfg.SnapshotCatchUpEntries = 100
	cfg.MaxSnapFiles = 2
	cfg.MaxWalFiles = 2

	cfg.QuotaBackendBytes = opts.Quota
	cfg.AutoCompactionMode = embed.CompactorModePeriodic
	cfg.AutoCompactionRetention = opts.Retention.String()
	return cfg
}
