// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// bothClients are the ways to a server. What holds for a client of a remote
// etcd must hold in-process as well, so every test here is run with both.
func bothClients(t *testing.T) map[string]*clientv3.Client {
	t.Helper()
	s := start(t, quick(dataDir(t)))
	return map[string]*clientv3.Client{
		"in-process": s.Client(),
		"socket":     dial(t, s.Endpoint()),
	}
}

func patience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestTransactions(t *testing.T) {
	for name, client := range bothClients(t) {
		t.Run(name, func(t *testing.T) {
			ctx, key := patience(t), t.Name()
			create := func(value string) (*clientv3.TxnResponse, error) {
				return client.Txn(ctx).
					If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
					Then(clientv3.OpPut(key, value)).
					Else(clientv3.OpGet(key)).
					Commit()
			}
			first, err := create("first")
			if err != nil || !first.Succeeded {
				t.Fatal(first, err)
			}
			second, err := create("second")
			if err != nil || second.Succeeded {
				t.Fatal(second, err)
			}
			kv := second.Responses[0].GetResponseRange().Kvs[0]
			if string(kv.Value) != "first" || kv.ModRevision != first.Header.Revision {
				t.Errorf("the loser sees %s", kv)
			}

			ops := make([]clientv3.Op, 129)
			for i := range ops {
				ops[i] = clientv3.OpPut(fmt.Sprintf("%s/%d", key, i), "v")
			}
			if _, err := client.Txn(ctx).Then(ops[:128]...).Commit(); err != nil {
				t.Errorf("128 operations: %v", err)
			}
			if _, err := client.Txn(ctx).Then(ops...).Commit(); !errors.Is(err, rpctypes.ErrTooManyOps) {
				t.Errorf("129 operations: %v", err)
			}
			if _, err := client.Txn(ctx).Then(ops[0], ops[0]).Commit(); !errors.Is(err, rpctypes.ErrDuplicateKey) {
				t.Errorf("a key put twice: %v", err)
			}
			if _, err := client.Put(ctx, key, strings.Repeat("x", 2<<20)); err == nil {
				t.Error("a request of 2 MiB was taken")
			}
			over, cancel := context.WithCancel(ctx)
			cancel()
			if _, err := client.Get(over, key); !errors.Is(err, context.Canceled) {
				t.Errorf("a read on a context that is over: %v", err)
			}
		})
	}
}

func TestWatches(t *testing.T) {
	for name, client := range bothClients(t) {
		t.Run(name, func(t *testing.T) {
			ctx, key := patience(t), t.Name()
			began := put(t, client, key, "0")
			watch := client.Watch(ctx, key, clientv3.WithRev(began), clientv3.WithPrevKV(), clientv3.WithProgressNotify())
			want := []string{"0"}
			for i := range 20 {
				want = append(want, fmt.Sprint(i))
				put(t, client, key, fmt.Sprint(i))
			}
			var got []string
			for len(got) < len(want) {
				for _, event := range (<-watch).Events {
					got = append(got, string(event.Kv.Value))
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}

			last := put(t, client, "elsewhere", "v")
			if err := client.RequestProgress(ctx); err != nil {
				t.Fatal(err)
			}
			progress, open := <-watch
			if !open || !progress.IsProgressNotify() || progress.Header.Revision < last {
				t.Errorf("progress is %+v, want one at revision %d or later", progress, last)
			}
		})
	}
}

func TestCompactedRevisionsAreToldApart(t *testing.T) {
	for name, client := range bothClients(t) {
		t.Run(name, func(t *testing.T) {
			ctx, key := patience(t), t.Name()
			old := put(t, client, key, "old")
			now := put(t, client, key, "new")
			if _, err := client.Compact(ctx, now); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Get(ctx, key, clientv3.WithRev(old)); !errors.Is(err, rpctypes.ErrCompacted) {
				t.Errorf("read: %v", err)
			}
			if _, err := client.Get(ctx, key, clientv3.WithRev(now+1000)); !errors.Is(err, rpctypes.ErrFutureRev) {
				t.Errorf("read ahead: %v", err)
			}
			if _, err := client.Compact(ctx, old); !errors.Is(err, rpctypes.ErrCompacted) {
				t.Errorf("compact: %v", err)
			}
			response := <-client.Watch(ctx, key, clientv3.WithRev(old))
			if !errors.Is(response.Err(), rpctypes.ErrCompacted) || response.CompactRevision != now {
				t.Errorf("watch: %v, compacted at %d, want %d", response.Err(), response.CompactRevision, now)
			}
		})
	}
}

func TestLeases(t *testing.T) {
	for name, client := range bothClients(t) {
		t.Run(name, func(t *testing.T) {
			ctx, key := patience(t), t.Name()
			revoked, err := client.Grant(ctx, 60)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.Put(ctx, key, "v", clientv3.WithLease(revoked.ID)); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Revoke(ctx, revoked.ID); err != nil {
				t.Fatal(err)
			}
			if got := get(t, client, key); got != "" {
				t.Errorf("the key outlived its lease: %s", got)
			}
			if _, err := client.KeepAliveOnce(ctx, revoked.ID); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
				t.Errorf("keeping a revoked lease alive: %v", err)
			}

			kept, err := client.Grant(ctx, 5) // so long that a busy machine keeps it alive in time
			if err != nil {
				t.Fatal(err)
			}
			dropped, err := client.Grant(ctx, 1)
			if err != nil {
				t.Fatal(err)
			}
			for key, lease := range map[string]clientv3.LeaseID{key + "/kept": kept.ID, key + "/dropped": dropped.ID} {
				if _, err := client.Put(ctx, key, "v", clientv3.WithLease(lease)); err != nil {
					t.Fatal(err)
				}
			}
			beats, err := client.KeepAlive(ctx, kept.ID)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "the lease nobody keeps alive to end", func() bool {
				select {
				case <-beats:
				default:
				}
				return get(t, client, key+"/dropped") == ""
			})
			if get(t, client, key+"/kept") != "v" {
				t.Error("the lease that is kept alive ended too")
			}
		})
	}
}

func TestMaintenance(t *testing.T) {
	for name, client := range bothClients(t) {
		t.Run(name, func(t *testing.T) {
			ctx := patience(t)
			put(t, client, "k", "v")
			endpoint := strings.Join(client.Endpoints(), "")
			status, err := client.Status(ctx, endpoint)
			if err != nil || status.DbSize == 0 || len(status.Errors) > 0 {
				t.Errorf("status %v, %v", status, err)
			}
			if _, err := client.Defragment(ctx, endpoint); err != nil {
				t.Errorf("defragment: %v", err)
			}
			snapshot, err := client.Snapshot(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer snapshot.Close()
			if n, err := io.Copy(io.Discard, snapshot); err != nil || n%512 != sha256.Size { // pages, and the hash over them
				t.Errorf("a snapshot of %d bytes: %v", n, err)
			}
		})
	}
}

// Readers that are at it while the server closes get errors, and the process
// does not go down.
func TestCloseUnderLoad(t *testing.T) {
	for range 5 {
		s := start(t, quick(dataDir(t)))
		put(t, s.Client(), "k", "v")
		var readers sync.WaitGroup
		for range 4 {
			started := make(chan struct{})
			readers.Go(func() {
				once := sync.OnceFunc(func() { close(started) })
				for {
					_, err := s.Client().Get(t.Context(), "k", clientv3.WithSerializable())
					once()
					if err != nil {
						return
					}
				}
			})
			<-started
		}
		s.Close()
		readers.Wait()
	}
}
