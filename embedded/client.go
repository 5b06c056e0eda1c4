// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"sync"

	"github.com/cockroachdb/errors"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy/adapter"
	"google.golang.org/grpc"
)

// clientOf makes etcd's own in-process client safe to use while and after the
// server stops. Its calls are function calls into the server, with nothing
// between: one that reads after the database is closed takes the process down.
// So the calls that reach the database pass a gate.
func clientOf(server *etcdserver.EtcdServer, g *gate) *clientv3.Client {
	client := v3client.New(server)
	kv := adapter.KvServerToKvClient(v3rpc.NewQuotaKVServer(server))
	client.KV = clientv3.NewKVFromKVClient(gatedKV{kv, g}, client)
	maintenance := adapter.MaintenanceServerToMaintenanceClient(v3rpc.NewMaintenanceServer(server, nil))
	client.Maintenance = clientv3.NewMaintenanceFromMaintenanceClient(gatedMaintenance{maintenance, server, g}, client)
	return client
}

// A gate lets calls through until it is shut.
type gate struct {
	mu       sync.RWMutex // held for reading by every call under way
	closed   bool
	stopping <-chan struct{} // etcd stops by itself
}

// shut turns new calls away and waits for those under way.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// through answers as etcd does when it is stopping, once the gate is shut.
func through[Request, Response any](
	ctx context.Context, g *gate, call func(context.Context, Request, ...grpc.CallOption) (Response, error),
	request Request, opts []grpc.CallOption,
) (Response, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	stopped := g.closed
	select {
	case <-g.stopping:
		stopped = true
	default:
	}
	if stopped {
		var none Response
		return none, rpctypes.ErrGRPCStopped
	}
	return call(ctx, request, opts...)
}

type gatedKV struct {
	pb.KVClient
	gate *gate
}

func (c gatedKV) Range(ctx context.Context, in *pb.RangeRequest, opts ...grpc.CallOption) (*pb.RangeResponse, error) {
	return through(ctx, c.gate, c.KVClient.Range, in, opts)
}

func (c gatedKV) Put(ctx context.Context, in *pb.PutRequest, opts ...grpc.CallOption) (*pb.PutResponse, error) {
	return through(ctx, c.gate, c.KVClient.Put, in, opts)
}

func (c gatedKV) DeleteRange(ctx context.Context, in *pb.DeleteRangeRequest, opts ...grpc.CallOption) (*pb.DeleteRangeResponse, error) {
	return through(ctx, c.gate, c.KVClient.DeleteRange, in, opts)
}

func (c gatedKV) Txn(ctx context.Context, in *pb.TxnRequest, opts ...grpc.CallOption) (*pb.TxnResponse, error) {
	return through(ctx, c.gate, c.KVClient.Txn, in, opts)
}

func (c gatedKV) Compact(ctx context.Context, in *pb.CompactionRequest, opts ...grpc.CallOption) (*pb.CompactionResponse, error) {
	return through(ctx, c.gate, c.KVClient.Compact, in, opts)
}

type gatedMaintenance struct {
	pb.MaintenanceClient
	server *etcdserver.EtcdServer
	gate   *gate
}

func (c gatedMaintenance) Status(ctx context.Context, in *pb.StatusRequest, opts ...grpc.CallOption) (*pb.StatusResponse, error) {
	return through(ctx, c.gate, c.MaintenanceClient.Status, in, opts)
}

func (c gatedMaintenance) Defragment(ctx context.Context, in *pb.DefragmentRequest, opts ...grpc.CallOption) (*pb.DefragmentResponse, error) {
	return through(ctx, c.gate, c.defragment, in, opts)
}

// defragment asks the server itself: the adapter's way to it dereferences a
// health notifier that only a gRPC server has (etcd 3.7.3).
func (c gatedMaintenance) defragment(context.Context, *pb.DefragmentRequest, ...grpc.CallOption) (*pb.DefragmentResponse, error) {
	if err := c.server.Defragment(); err != nil {
		return nil, errors.Wrap(err, "defragment the embedded etcd")
	}
	return &pb.DefragmentResponse{}, nil
}

func (c gatedMaintenance) Hash(ctx context.Context, in *pb.HashRequest, opts ...grpc.CallOption) (*pb.HashResponse, error) {
	return through(ctx, c.gate, c.MaintenanceClient.Hash, in, opts)
}

func (c gatedMaintenance) HashKV(ctx context.Context, in *pb.HashKVRequest, opts ...grpc.CallOption) (*pb.HashKVResponse, error) {
	return through(ctx, c.gate, c.MaintenanceClient.HashKV, in, opts)
}

func (c gatedMaintenance) Snapshot(ctx context.Context, in *pb.SnapshotRequest, opts ...grpc.CallOption) (grpc.ServerStreamingClient[pb.SnapshotResponse], error) {
	return through(ctx, c.gate, c.MaintenanceClient.Snapshot, in, opts)
}
