// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"fmt"
	"net/url"
	"runtime"
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

// givenUp says what to do about files that etcd panicked over.
func (at place) givenUp(reason any) error {
	if fault, is := reason.(runtime.Error); is {
		// It tripped over what it read. The words of the fault tell nobody anything.
		return errors.WithSecondaryError(at.damaged("it cannot be read"), fault)
	}
	text := fmt.Sprint(reason)
	if isFull(text) {
		return at.full()
	}
	return at.damaged(text)
}

// plain is why etcd cannot go on, in words for the user where that is known.
func (at place) plain(reason string) string {
	if isFull(reason) {
		return "the disk of the data directory " + at.dir + " is full"
	}
	return reason
}

// isFull says whether etcd's words mean a disk without space.
func isFull(reason string) bool { return strings.Contains(reason, syscall.ENOSPC.Error()) }

// startEtcd returns an etcd that listens, but may have no leader yet.
//
// Etcd answers damaged files with a panic or an exit of the process. As far as
// that happens on this goroutine it becomes an error here.
func startEtcd(running context.Context, at place, opts Options) (etcd *embed.Etcd, err error) {
	var started atomic.Bool
	defer started.Store(true)
	defer func() {
		if r := recover(); r != nil {
			etcd, err = nil, at.givenUp(r)
		}
	}()
	if told := opts.LastWords; told != nil {
		opts.LastWords = func(reason string) { told(at.plain(reason)) }
	}
	cfg := config(at, opts)
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapTo(running, opts, &started))
	cfg.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ChainStreamInterceptor(endWith(running))}
	etcd, err = embed.StartEtcd(cfg)
	return etcd, errors.Wrapf(err, "start the embedded etcd on %s", at.home)
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
