// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/archive"
	"github.com/ipamlog/ipamlog/bench/bulk"
	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/node"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/index"
	"github.com/ipamlog/ipamlog/replay/timespec"
)

// archiverConfig has the settings of a daemon that does nothing but archive, in the
// process that it is.
const archiverConfig = "NODE_TEST_ARCHIVER"

// often is how often a daemon of these tests looks for what is old.
const often = 30 * time.Millisecond

func init() {
	text := os.Getenv(archiverConfig)
	if text == "" {
		return
	}
	fmt.Fprintln(os.Stderr, archiveOnly(text))
	os.Exit(1)
}

// archiveOnly archives until it is killed.
func archiveOnly(settings string) error {
	var cfg config.Config
	if err := json.Unmarshal([]byte(settings), &cfg); err != nil {
		return err
	}
	n, err := node.Start(context.Background(), cfg, "test", zerolog.Nop())
	if err != nil {
		return err
	}
	if _, err := n.Join(context.Background(), nobody{}); err != nil {
		return err
	}
	return n.KeepArchive(context.Background(), often)
}

// archiving makes a daemon one that archives.
func archiving(to string) func(*config.Config) {
	return func(c *config.Config) { c.ArchiveAfter, c.ArchiveTo = time.Hour, to }
}

// archives has a daemon archive until the function is called that is returned.
func (d *served) archives() (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(d.tb.Context()))
	var working sync.WaitGroup
	working.Go(func() {
		if err := d.node.KeepArchive(ctx, often); err != nil {
			d.tb.Error(err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		working.Wait()
	})
	d.tb.Cleanup(stop)
	return stop
}

// TestNode_archives: daemons with --archive-after take what is months old out of the
// store, some of them killed over it, while Docker is answered; and who asks about the
// past is told the same as before.
func TestNode_archives(t *testing.T) {
	const story = 12_000
	dir, to := shortDir(t), filepath.Join(shortDir(t), "archive")
	endpoint := "unix://" + startEtcd(t, dir, nil).Clients[0].Addr().String()
	global := config.Global{ClusterStore: []string{endpoint}, Prefix: etcdlog.DefaultPrefix}
	client := dial(t, global)
	if err := bulk.Write(t.Context(), client, etcdlog.DefaultPrefix, bulk.Story{Events: story, Held: 300}.Commits(), nil); err != nil {
		t.Fatal(err)
	}
	log := etcdlog.New(client, etcdlog.DefaultPrefix)
	log.Archive = &archive.Shelf{}
	before := answers(t, log)
	if len(before) < 100 {
		t.Fatalf("%d answers are too few to compare", len(before))
	}

	// The first ones are killed: at once when a segment is there, and amidst its removal.
	var keys []string
	for n, enough := range []func() bool{
		func() bool { return len(segmentsOf(t, log)) > 0 },
		func() bool { return stored(t, client) < story*2/3 },
	} {
		cfg := settings(t, fmt.Sprintf("killed-%d", n))
		cfg.ClusterStore = global.ClusterStore
		archiving(to)(&cfg)
		killArchiver(t, cfg, enough)
		keys = append(keys, cfg.ArchiveKeyFile())
		if left := stored(t, client); left == 0 {
			t.Fatal("nothing is left for the others to do")
		}
	}
	compare(t, before, answers(t, log))

	d := serve(t, "h1", endpoint, archiving(to))
	other := serve(t, "h2", endpoint, archiving(to))
	d.grant()
	held := map[int]netip.Addr{1: d.gets(1)}
	keys = append(keys, d.cfg.ArchiveKeyFile(), other.cfg.ArchiveKeyFile())
	stop := []func(){d.archives(), other.archives()}
	d.eventually("all that is old is in the archive", func() string {
		for _, s := range segmentsOf(t, log) {
			if s.State != etcdlog.Removed {
				return string(s.State)
			}
		}
		if left := stored(t, client); left > 100 {
			return fmt.Sprintf("%d commits are in the store", left)
		}
		return ""
	})
	held[2] = d.gets(2)
	d.frees(held[1])
	delete(held, 1)
	for _, f := range stop {
		f()
	}
	compare(t, before, answers(t, log))
	compare(t, before, told(t, d.node.Index()))
	if got := d.gets(3); got == held[2] {
		t.Errorf("%s is given twice", got)
	}
	report, _, err := replay.Verify(t.Context(), log, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		if f.Rule == replay.RuleComplete {
			t.Errorf("%+v", f)
		}
	}
	proves(t, to, keys, segmentsOf(t, log))
	if strings.Contains(d.log.String(), `"level":"error"`) {
		t.Errorf("the daemon complains:\n%s", d.log)
	}
}

// proves holds an archive against the keys that were used for it.
func proves(t *testing.T, dir string, keyFiles []string, expected []etcdlog.Segment) {
	t.Helper()
	var public []string
	for _, file := range keyFiles {
		if text, err := os.ReadFile(file + ".pub"); err == nil { // one that sealed nothing may have none
			public = append(public, string(text))
		}
	}
	keys, err := archive.ParseKeys(public...)
	if err != nil {
		t.Fatal(err)
	}
	place, err := archive.OpenPlace(dir)
	if err != nil {
		t.Fatal(err)
	}
	report, err := archive.Verify(t.Context(), place, keys, nil, expected, nil)
	if err != nil || len(report.Findings) > 0 || report.Commits < 11_000 {
		t.Errorf("%+v: %v", report, err)
	}
}

// killArchiver runs a daemon that archives, and kills it when it has done enough.
func killArchiver(t *testing.T, cfg config.Config, enough func() bool) {
	t.Helper()
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	victim := exec.CommandContext(t.Context(), os.Args[0])
	victim.Env, victim.Stderr = append(os.Environ(), archiverConfig+"="+string(text)), os.Stderr
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for !enough() && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait() // it was killed
	if time.Now().After(deadline) {
		t.Fatal("it never archived anything")
	}
}

func segmentsOf(t *testing.T, log *etcdlog.Log) []etcdlog.Segment {
	t.Helper()
	segments, err := log.Segments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return segments
}

// stored counts the commits in the store.
func stored(t *testing.T, client *clientv3.Client) int {
	t.Helper()
	resp, err := client.Get(t.Context(), etcdlog.DefaultPrefix+"log/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	return int(resp.Count)
}

// answers are who held some addresses, as somebody is told who begins to ask now.
func answers(t *testing.T, log *etcdlog.Log) []string {
	t.Helper()
	identity, err := log.Store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return told(t, index.Open(log, identity.ID, etcdlog.DefaultPrefix, t.TempDir()))
}

// told asks who held addresses of the story while it went on.
func told(t *testing.T, x *index.Index) []string {
	t.Helper()
	var list []string
	err := x.Ask(t.Context(), nil, func(h *replay.History) error {
		list = nil
		for n := range 400 { // each network starts a container every 1.9 s, and keeps four
			moment, err := h.Moment(timespec.Spec{Time: bulk.Begun.Add(time.Duration(n) * 250 * time.Millisecond)}, time.Now())
			if err != nil {
				return err
			}
			who := h.Who(netip.AddrFrom4([4]byte{10, byte(n % 64), 0, byte(1 + n*250/1920)}), nil, moment)
			who.After = nil // which may have come since
			text, err := json.Marshal(who)
			if err != nil {
				return err
			}
			if len(who.Holdings) > 0 {
				list = append(list, string(text))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func compare(t *testing.T, before, now []string) {
	t.Helper()
	if !slices.Equal(before, now) {
		t.Errorf("who held what is %d answers now, and was %d", len(now), len(before))
		for i := range min(len(before), len(now)) {
			if before[i] != now[i] {
				t.Fatalf("it is\n%s\nand was\n%s", now[i], before[i])
			}
		}
	}
}
