// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/node"
	"github.com/ipamlog/ipamlog/store"
)

// soon is asked for looks that never come.
func soon() {}

// TestNode_unlooked: that a store was not compared with the engine yet is remembered
// until it was.
func TestNode_unlooked(t *testing.T) {
	cfg := settings(t, "h1")
	d := start(t, cfg)
	if d.host.Unlooked().All {
		t.Error("a store of this daemon's own making")
	}
	d.stop()
	d.Close()
	memory, known, err := store.Recollect(cfg.DataDir)
	if err != nil || !known || memory.Unlooked {
		t.Fatalf("%+v %v %v", memory, known, err)
	}
	memory.Unlooked = true // as `ipamlog adopt --store` leaves it
	if err := store.Remember(cfg.DataDir, memory); err != nil {
		t.Fatal(err)
	}
	for _, round := range []string{"adopted", "ended before the look", "nobody looks"} {
		d := start(t, cfg, func(n *node.Node) {
			if round != "nobody looks" {
				n.LookWith(soon)
			}
		})
		if !d.host.Unlooked().All {
			t.Errorf("%s: it is not known any more", round)
		}
		d.stop()
		d.Close()
	}
	d = start(t, cfg, func(n *node.Node) { n.LookWith(soon) })
	d.host.Looked(time.Now(), nil)
	d.stop()
	d.Close()
	if memory, _, err := store.Recollect(cfg.DataDir); err != nil || memory.Unlooked || memory.Revision == 0 {
		t.Errorf("%+v %v", memory, err)
	}
}

// lostDir is the environment variable that makes this binary a daemon which loses a
// network: see lose.
const lostDir = "NODE_TEST_LOST_DIR"

// ask is a container's.
func ask(mac byte) actor.AddressRequest {
	return actor.AddressRequest{Asking: actor.AskEndpoint, MAC: events.MAC{2, 0, 0, 0, 0, mac}}
}

// lose opens a grant again that is gone, because a container asks through it, says which
// one it is, and waits to be killed.
func lose(dir string) error {
	ctx := context.Background()
	n, err := node.Start(ctx, lossy(dir), "test", zerolog.Nop())
	if err != nil {
		return err
	}
	n.LookWith(soon)
	host, err := n.Join(ctx, nobody{})
	if err != nil {
		return err
	}
	go func() { _ = host.Run(ctx) }()
	granted, err := host.RequestPool(ctx, actor.PoolRequest{Space: events.Local, Subnet: netip.MustParsePrefix("10.50.0.0/24")})
	if err != nil {
		return err
	}
	if _, err := host.ReleasePool(ctx, granted.Ref); err != nil {
		return err
	}
	if _, err := host.RequestAddress(ctx, granted.Ref, ask(1)); !errors.Is(err, actor.ErrUnlooked) {
		return errors.Newf("the ask: %v", err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(granted.Ref); err != nil {
		return err
	}
	select {}
}

func lossy(dir string) config.Config {
	return config.Config{
		Global: config.Global{Prefix: "/lost/", DataDir: dir},
		Serve:  config.Serve{Host: "h1", Engine: config.Off, Listen: config.Off},
	}
}

// TestNode_unlookedKilled: a daemon that is killed between a grant's opening and the look
// at its network leaves the next one to look.
func TestNode_unlookedKilled(t *testing.T) {
	dir := shortDir(t)
	killed := exec.CommandContext(t.Context(), os.Args[0])
	killed.Env, killed.Stderr = append(os.Environ(), lostDir+"="+dir), os.Stderr
	out, err := killed.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	said, err := bufio.NewReader(out).ReadBytes('\n')
	if err := errors.CombineErrors(err, killed.Process.Kill()); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait() // it was killed
	var ref actor.Ref
	if err := json.Unmarshal(said, &ref); err != nil {
		t.Fatalf("%s: %v", said, err)
	}

	d := start(t, lossy(dir), func(n *node.Node) { n.LookWith(soon) })
	if left := d.host.Unlooked(); left.All || !slices.Equal(left.Grants, []events.ID{ref.Grant}) {
		t.Errorf("not looked at: %+v", left)
	}
	if a, err := d.host.RequestAddress(t.Context(), ref, ask(1)); !errors.Is(err, actor.ErrUnlooked) {
		t.Errorf("given %+v: %v", a, err)
	}
	d.allocate(t) // elsewhere nobody waits
	d.host.Looked(time.Now(), nil)
	if _, err := d.host.RequestAddress(t.Context(), ref, ask(1)); err != nil {
		t.Error(err)
	}
	d.stop()
	d.Close()
	if memory, _, err := store.Recollect(dir); err != nil || len(memory.Reopened) > 0 {
		t.Errorf("%+v %v", memory, err)
	}
}

// daemonOrTests makes this binary a daemon if it is to be one.
func daemonOrTests() {
	if dir := os.Getenv(lostDir); dir != "" {
		fmt.Fprintln(os.Stderr, lose(dir))
		os.Exit(1)
	}
}
