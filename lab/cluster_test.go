// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/ipamlog/ipamlog/lab"
)

// client is one of the cluster, on a host.
func client(t *testing.T, h *lab.Host, c *lab.Cluster) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints:         c.Endpoints(),
		Logger:            zap.NewNop(),
		DialKeepAliveTime: time.Second, DialKeepAliveTimeout: time.Second, // or it would not miss who is cut off
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return h.Dial(ctx, "tcp", address)
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func leader(t *testing.T, c *lab.Cluster) *lab.Member {
	t.Helper()
	m, err := c.Leader()
	must(t, err)
	return m
}

// TestCluster ends members of a cluster, and cuts them off, in every way; what
// was once written stays.
func TestCluster(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	began := time.Now()
	c := l.StartCluster(3)
	t.Logf("the cluster started in %v", time.Since(began))
	client := client(t, l.Host("user"), c)
	// works writes, and looks for all that was written before.
	written := int64(0)
	works := func(t *testing.T) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var err error
		for again := true; again; again = err != nil && ctx.Err() == nil {
			_, err = client.Put(ctx, fmt.Sprintf("key%d", written), "v") // the same however often
		}
		must(t, err)
		written++
		all, err := client.Get(ctx, "key", clientv3.WithPrefix(), clientv3.WithCountOnly())
		must(t, err)
		if all.Count != written {
			t.Errorf("%d keys are there, and %d were written", all.Count, written)
		}
	}
	works(t)

	for name, end := range map[string]func(*lab.Member) error{
		"killed":    func(m *lab.Member) error { return m.Kill() },
		"stopped":   func(m *lab.Member) error { return m.Stop() },
		"power cut": func(m *lab.Member) error { return m.Host.Reboot() },
	} {
		t.Run("the leader is "+name, func(t *testing.T) {
			old := leader(t, c)
			must(t, end(old))
			if got := leader(t, c); got == old {
				t.Errorf("%s leads, and was %s", got.Host.Name(), name)
			}
			works(t)
			must(t, old.Start())
			works(t)
		})
	}
	t.Run("the leader is cut off", func(t *testing.T) {
		old := leader(t, c)
		must(t, old.Host.Unplug())
		if got := leader(t, c); got == old {
			t.Errorf("%s leads, and is cut off", got.Host.Name())
		}
		works(t)
		must(t, old.Host.Plug())
		works(t)
	})
	t.Run("all are killed", func(t *testing.T) {
		for _, m := range c.Members {
			must(t, m.Kill())
		}
		must(t, c.Start())
		works(t)
	})
}
