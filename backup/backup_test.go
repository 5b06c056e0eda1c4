// SPDX-License-Identifier: Apache-2.0

package backup_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/backup"
	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/replay"
)

// A log that was backed up and restored, once or several times over, and that went on
// in between, is the log it would have been.
func TestRoundTrip(t *testing.T) {
	client := etcdtest.Start(t).Client()
	dir := t.TempDir()
	cases := 0
	rapid.Check(t, func(t *rapid.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cases++
		prefix := func(generation int) string { return fmt.Sprintf("/log-%d-%d/", cases, generation) }
		s := begin(ctx, t, client, prefix(0))
		var frontier etcdlog.Frontier // of who reads on from time to time
		var read []events.Record
		for generation := range rapid.IntRange(1, 3).Draw(t, "generations") {
			for range rapid.IntRange(0, 12).Draw(t, "acts") {
				n := rapid.IntRange(0, 9).Draw(t, "what")
				if n == 9 || len(s.pools) == 0 {
					s.create()
					continue
				}
				s.act(s.pools[n%len(s.pools)], n)
			}
			if rapid.Bool().Draw(t, "leaves") {
				s.leave()
			}
			s.sound()
			before := s.records()
			heads, last, err := s.log.Heads(ctx)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "log.zst")
			summary := s.backUp(path)
			if summary.Revision < last || summary.Commits != len(before) {
				t.Fatalf("%+v, and the log has %d commits up to %d", summary, len(before), last)
			}
			log, store := restore(ctx, t, client, path, prefix(generation+1))
			was, err := s.log.Store(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if store.ID == was.ID || store.Restored.Store != was.ID || store.Restored.Revision != summary.Revision {
				t.Fatalf("%+v restored from %+v", store, was)
			}
			sameLog(ctx, t, before, heads, log)
			for _, p := range s.pools {
				was, _ := s.guards(p)
				is, _, err := log.Guards(ctx, events.Local, p.id)
				if err != nil {
					t.Fatal(err)
				}
				if diff := gocmp.Diff(values(was), values(is), equate); diff != "" {
					t.Fatalf("the guards differ:\n%s", diff)
				}
			}

			// It goes on, and numbers go up.
			pools := s.pools
			s = begin(ctx, t, client, prefix(generation+1))
			s.pools = pools
			s.sound()
			if after := s.records(); len(after) != len(before)+1 || after[len(before)].Revision <= summary.Revision || !ordered(after) {
				t.Fatalf("%d records, and %d before, when the log was at %d", len(after), len(before), summary.Revision)
			}
			more, err := s.log.ReadOn(ctx, &frontier, nil)
			if err != nil {
				t.Fatal(err)
			}
			read = append(read, more...)
			if diff := gocmp.Diff(s.records(), read, equate); diff != "" {
				t.Fatalf("who read on has something else:\n%s", diff)
			}
		}
	})
}

// values are guards without their revisions, which a restore does not keep.
func values(g events.Guards) events.Guards {
	g.Pool.Revision = 0
	for id, guard := range g.Grants {
		guard.Revision = 0
		g.Grants[id] = guard
	}
	for address, guard := range g.Held {
		guard.Revision = 0
		g.Held[address] = guard
	}
	return g
}

// What stands in the store is byte for byte what stood in the old one.
func TestRestore_bytes(t *testing.T) {
	client := etcdtest.Start(t).Client()
	path, _ := fileOf(t, client, "/a/")
	// Of a version of the future: a key, a field, and a commit that nobody here reads.
	for key, value := range map[string]string{"quotas/x/y": `{"z":  1e3}`, "hosts/h9": `{"machine":"<m9>","incarnation":7,"colour":"blue"}`} {
		if _, err := client.Put(t.Context(), "/a/"+key, value); err != nil {
			t.Fatal(err)
		}
	}
	future := []byte(`{"v":77,"events":"many"}`)
	if _, err := client.Txn(t.Context()).Then(etcdlog.PutCommit("/a/", events.Catalogue, events.ID{1, 2}, future)...).Commit(); err != nil {
		t.Fatal(err)
	}
	(&story{t: t, ctx: t.Context(), log: etcdlog.New(client, "/a/")}).backUp(path)
	restore(t.Context(), t, client, path, "/b/")
	a, b := raw(t, client, "/a/"), raw(t, client, "/b/")
	for _, kind := range []string{"pools", "grants", "held", "hosts", "quotas"} {
		if diff := gocmp.Diff(only(a, kind), only(b, kind)); diff != "" || len(only(a, kind)) == 0 {
			t.Errorf("%s: %s", kind, diff)
		}
	}
	for key, value := range only(a, "log") {
		rest, marked := strings.CutPrefix(b[key], `{"revision":`)
		_, rest, _ = strings.Cut(rest, ",")
		if !marked || "{"+rest != value {
			t.Errorf("%s: %s became %s", key, value, b[key])
		}
	}
	if len(only(a, "log")) != len(only(b, "log")) || len(only(b, "heads"))+len(only(b, "alive")) > 0 || b["meta/restoring"] != "" {
		t.Errorf("%v", b)
	}
	// And back into a third.
	(&story{t: t, ctx: t.Context(), log: etcdlog.New(client, "/b/")}).backUp(path)
	restore(t.Context(), t, client, path, "/c/")
	if diff := gocmp.Diff(only(b, "log"), only(raw(t, client, "/c/"), "log")); diff != "" {
		t.Errorf("restored twice: %s", diff)
	}
}

// What was deleted from the log before a backup is missed after a restore, too.
func TestRestore_missing(t *testing.T) {
	client := etcdtest.Start(t).Client()
	path, _ := fileOf(t, client, "/a/")
	records, _, err := etcdlog.New(client, "/a/").Read(t.Context(), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	gone := records[3]
	if _, err := client.Delete(t.Context(), "/a/log/"+string(gone.Stream)+"/"+gone.ID.String()); err != nil {
		t.Fatal(err)
	}
	(&story{t: t, ctx: t.Context(), log: etcdlog.New(client, "/a/")}).backUp(path)
	log, _ := restore(t.Context(), t, client, path, "/b/")
	report, _, err := replay.Verify(t.Context(), log, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(report.Findings, func(f replay.Finding) bool { return f.Rule == replay.RuleComplete }) {
		t.Errorf("%+v", report.Findings)
	}
}

// A guard that was changed after the restore, by nobody's event, is told of.
func TestRestore_spoiled(t *testing.T) {
	client := etcdtest.Start(t).Client()
	path, _ := fileOf(t, client, "/a/")
	restore(t.Context(), t, client, path, "/b/")
	for key, value := range only(raw(t, client, "/b/"), "held") {
		if _, err := client.Put(t.Context(), "/b/"+key, value); err != nil { // only its revision is another
			t.Fatal(err)
		}
		break
	}
	log := etcdlog.New(client, "/b/")
	storeOf(t, log) // which everybody reads first
	report, _, err := replay.Verify(t.Context(), log, nil)
	if err != nil || len(report.Findings) != 1 || report.Findings[0].Rule != replay.RuleGuards {
		t.Errorf("%v %+v", err, report)
	}
}

// A backup while others write is of one moment.
func TestSnapshot_whileOthersWrite(t *testing.T) {
	client := etcdtest.Start(t).Client()
	s := begin(t.Context(), t, client, "/busy/")
	s.create()
	s.create()
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	defer writing.Wait()
	defer stop()
	acts := make(chan struct{})
	writing.Go(func() {
		defer close(acts)
		for n := 0; ctx.Err() == nil; n++ {
			s.act(s.pools[n%2], n%50)
			select {
			case acts <- struct{}{}:
			default:
			}
		}
	})
	reader := &story{t: t, ctx: t.Context(), log: etcdlog.New(client, "/busy/")}
	for i := range 5 {
		for range 20 {
			if _, writes := <-acts; !writes {
				t.Fatal("nobody writes any more")
			}
		}
		path := filepath.Join(t.TempDir(), "log.zst")
		summary := reader.backUp(path)
		log, _ := restore(t.Context(), t, client, path, fmt.Sprintf("/quiet-%d/", i))
		(&story{t: t, ctx: t.Context(), log: log}).sound()
		records, _, err := s.log.Read(t.Context(), summary.Revision, nil)
		if err != nil {
			t.Fatal(err)
		}
		restored, _, err := log.Read(t.Context(), 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(records, restored, equate); diff != "" {
			t.Fatalf("at %d:\n%s", summary.Revision, diff)
		}
	}
}

// Who asks a restored store for what came after a revision of before the restore is
// sent to the log, and who watches from the restore on is not told of old commits.
func TestTail_overRestore(t *testing.T) {
	client := etcdtest.Start(t).Client()
	path, _ := fileOf(t, client, "/a/")
	log, store := restore(t.Context(), t, client, path, "/b/")
	if err := log.Tail(t.Context(), "", store.Base-1, nil); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("from before the restore: %v", err)
	}
	s := begin(t.Context(), t, client, "/b/")
	joined := s.records()
	want := joined[len(joined)-1]
	done := errors.New("that was it")
	var got []events.Record
	err := log.Tail(t.Context(), "", store.Base, func(u etcdlog.Update) error {
		if got = append(got, u.Records...); len(got) > 0 {
			return done
		}
		return nil
	})
	if diff := gocmp.Diff([]events.Record{want}, got, equate); !errors.Is(err, done) || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

// A guard that was seen before the restore is not the one that is there.
func TestRestore_staleGuards(t *testing.T) {
	client := etcdtest.Start(t).Client()
	s := begin(t.Context(), t, client, "/a/")
	p := s.create()
	s.act(p, 2)
	seen, _ := s.guards(p)
	path := filepath.Join(t.TempDir(), "log.zst")
	s.backUp(path)
	restore(t.Context(), t, client, path, "/b/")
	after := begin(t.Context(), t, client, "/b/")
	_, err := after.w.Append(t.Context(), etcdlog.Proposal{
		ID: after.log.Clock.NewID(), Stream: events.PoolStream(p.id), Seen: seen,
		Events: []events.Event{events.GrantClosing{Grant: p.grant}},
	})
	if !errors.Is(err, etcdlog.ErrConflict) {
		t.Errorf("it was written: %v", err)
	}
	after.pools = []*pool{p}
	after.act(p, 2)
	after.sound()
	// And the old host does not write into it either.
	old := etcdlog.Memory{Store: storeOf(t, s.log).ID, Revision: 3}
	if err := after.log.Recall(t.Context(), old); !errors.Is(err, etcdlog.ErrOtherStore) || !strings.Contains(err.Error(), "restored from store "+old.Store.String()) {
		t.Errorf("%v", err)
	}
}

// What a commit demands of the store is demanded of a restored one as well.
func TestRestore_conditions(t *testing.T) {
	client := etcdtest.Start(t).Client()
	path, _ := fileOf(t, client, "/a/")
	restore(t.Context(), t, client, path, "/b/")
	s := begin(t.Context(), t, client, "/b/")
	at, err := s.log.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.pools = []*pool{nil} // the name web0 is taken
	s.create()
	pool := events.PoolCreated{Space: events.Local, Name: "late", Subnet: netip.MustParsePrefix("10.9.0.0/16"), Policy: events.DefaultPolicy()}
	propose := func(catalogueAt int64) error {
		id := s.log.Clock.NewID()
		_, err := s.w.Append(t.Context(), etcdlog.Proposal{ID: id, Stream: events.PoolStream(id), Events: []events.Event{pool}, Seen: events.NewGuards(), CatalogueAt: catalogueAt})
		return err
	}
	if err := propose(at); !errors.Is(err, etcdlog.ErrConflict) {
		t.Errorf("a pool was made on a catalogue that had changed: %v", err)
	}
	if at, err = s.log.Revision(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := propose(at); err != nil {
		t.Errorf("a pool was not made: %v", err)
	}
	lease, err := client.Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.w.Describe(t.Context(), etcdlog.Presence{Machine: "m1", Engine: "29"}, lease.ID); err != nil {
		t.Errorf("the daemon may not tell of itself: %v", err)
	}
	stream, id, revision := s.w.Last()
	memory := etcdlog.Memory{Store: storeOf(t, s.log).ID, Revision: revision, Stream: stream, Commit: id}
	if err := s.log.Recall(t.Context(), memory); err != nil {
		t.Errorf("the store is not known again: %v", err)
	}
}

func storeOf(t *testing.T, log *etcdlog.Log) etcdlog.Store {
	t.Helper()
	s, err := log.Store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRestore_intoWhatIsThere(t *testing.T) {
	client := etcdtest.Start(t).Client()
	path, _ := fileOf(t, client, "/a/")
	before := raw(t, client, "/a/")
	if _, err := restoreTo(t.Context(), etcdlog.New(client, "/a/"), path); !errors.Is(err, etcdlog.ErrNotEmpty) {
		t.Errorf("into a log: %v", err)
	}
	if diff := gocmp.Diff(before, raw(t, client, "/a/")); diff != "" {
		t.Error(diff)
	}
	if _, err := client.Put(t.Context(), "/b/alive/h1", "{}"); err != nil {
		t.Fatal(err)
	}
	if _, err := restoreTo(t.Context(), etcdlog.New(client, "/b/"), path); !errors.Is(err, etcdlog.ErrNotEmpty) {
		t.Errorf("beside a daemon: %v", err)
	}
}

// A store that was restored in part is used by nobody, and restored into again.
func TestRestore_unfinished(t *testing.T) {
	client := etcdtest.Start(t).Client()
	path, _ := fileOf(t, client, "/a/")
	log := etcdlog.New(client, "/b/")
	first, err := log.Restore(t.Context(), etcdlog.Origin{Revision: 100})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 250 { // more than one transaction
		if err := first.Guard(t.Context(), etcdlog.RawGuard{Key: fmt.Sprintf("held/x/%d", i), Value: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	if len(only(raw(t, client, "/b/"), "held")) == 0 {
		t.Fatal("nothing was written yet")
	}
	if _, err := log.Store(t.Context()); !errors.Is(err, etcdlog.ErrUnfinished) {
		t.Errorf("a command uses it: %v", err)
	}
	if _, err := log.Found(t.Context()); !errors.Is(err, etcdlog.ErrUnfinished) {
		t.Errorf("a daemon uses it: %v", err)
	}
	restored, _ := restore(t.Context(), t, client, path, "/b/")
	(&story{t: t, ctx: t.Context(), log: restored}).sound()
	if left := only(raw(t, client, "/b/"), "held"); len(left) == 0 || left["held/x/0"] != "" {
		t.Errorf("%v", left)
	}
	if _, err := first.Finish(t.Context(), etcdlog.Store{Format: etcdlog.Format}); err == nil {
		t.Error("the first restore ended well all the same")
	}
}

// A daemon that writes into a store that is being restored spoils the restore, and is
// told of.
func TestRestore_disturbed(t *testing.T) {
	client := etcdtest.Start(t).Client()
	log := etcdlog.New(client, "/b/")
	r, err := log.Restore(t.Context(), etcdlog.Origin{Revision: 100})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(t.Context(), "/b/heads/catalogue", "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Finish(t.Context(), etcdlog.Store{Format: etcdlog.Format}); err == nil || !strings.Contains(err.Error(), "somebody else wrote") {
		t.Errorf("%v", err)
	}
}

// Whatever is cut off or changed in a file is noticed, and nothing restored.
func TestRead_damaged(t *testing.T) {
	client := etcdtest.Start(t).Client()
	path, content := fileOf(t, client, "/a/")
	if err := read(content); err != nil {
		t.Fatal(err)
	}
	for n := range content {
		if err := read(content[:n]); !errors.IsAny(err, backup.ErrDamaged, backup.ErrNoBackup) {
			t.Errorf("cut off after %d of %d bytes: %v", n, len(content), err)
		}
	}
	lines := unpack(t, content)
	for i := range lines {
		changed := append([]string(nil), lines...)
		changed[i] = strings.Replace(lines[i], "1", "2", 1)
		if changed[i] == lines[i] {
			continue
		}
		if err := read(pack(t, changed)); !errors.IsAny(err, backup.ErrDamaged, backup.ErrNoBackup, backup.ErrNewer) {
			t.Errorf("line %d changed: %v", i, err)
		}
		without := append(append([]string(nil), lines[:i]...), lines[i+1:]...)
		if err := read(pack(t, without)); !errors.IsAny(err, backup.ErrDamaged, backup.ErrNoBackup) {
			t.Errorf("without line %d: %v", i, err)
		}
	}
	if err := read(pack(t, append(lines, lines[1]))); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("more behind the end: %v", err)
	}
	if err := os.WriteFile(path, content[:len(content)-20], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := restoreTo(t.Context(), etcdlog.New(client, "/b/"), path); !errors.Is(err, backup.ErrDamaged) {
		t.Error(err)
	}
	if left := raw(t, client, "/b/"); len(left) > 0 {
		t.Errorf("%v", left)
	}
}

func TestRead_foreign(t *testing.T) {
	head := `{"backup":{"format":1,"version":"v9","time":"2026-03-01T00:00:00Z","prefix":"/","revision":5,"store":{"store":"01JN7W9S40A000000000000001","base":0,"format":%d}}}`
	for name, c := range map[string]struct {
		content []byte
		want    error
	}{
		"nothing":               {nil, backup.ErrNoBackup},
		"text":                  {[]byte("a snapshot of etcd"), backup.ErrNoBackup},
		"something packed":      {pack(t, []string{"hello"}), backup.ErrNoBackup},
		"other JSON":            {pack(t, []string{`{"a":1}`}), backup.ErrNoBackup},
		"a format to come":      {pack(t, []string{`{"backup":{"format":2,"way":"new"}}`}), backup.ErrNewer},
		"a store format":        {pack(t, []string{fmt.Sprintf(head, etcdlog.Format+1)}), backup.ErrNewer},
		"a header alone":        {pack(t, []string{fmt.Sprintf(head, etcdlog.Format)}), backup.ErrDamaged},
		"an unknown line":       {pack(t, []string{fmt.Sprintf(head, etcdlog.Format), `{"colour":"blue"}`}), backup.ErrDamaged},
		"a line without an end": {pack(t, []string{fmt.Sprintf(head, etcdlog.Format), strings.Repeat("x", 17<<20)}), backup.ErrDamaged},
	} {
		if err := read(c.content); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSave_files(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log.zst")
	snapshot := &etcdlog.Snapshot{Store: etcdlog.Store{ID: events.ID{1}, Format: etcdlog.Format}, Revision: 5}
	save := func(ctx context.Context, path string, replace bool) error {
		_, err := backup.Save(ctx, path, replace, snapshot, backup.Header{})
		return err
	}
	if err := save(t.Context(), path, false); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if err := save(t.Context(), path, false); !errors.Is(err, backup.ErrExists) {
		t.Errorf("over another: %v", err)
	}
	if err := save(t.Context(), path, true); err != nil {
		t.Errorf("over another with --force: %v", err)
	}
	if err := save(t.Context(), dir, true); !errors.Is(err, backup.ErrExists) {
		t.Errorf("over a directory: %v", err)
	}
	if err := save(t.Context(), filepath.Join(dir, "none", "log"), true); err == nil {
		t.Error("into a directory that is not there")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := save(ctx, filepath.Join(dir, "other"), false); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	snapshot.Guards = []etcdlog.RawGuard{{Key: "hosts/h1", Value: []byte("no JSON")}}
	if err := save(t.Context(), filepath.Join(dir, "other"), false); err == nil {
		t.Error("what is no JSON was backed up")
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	hidden, _ := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left)+len(hidden) != 1 {
		t.Errorf("%v %v %v", left, hidden, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "other")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// Whatever is read is refused or makes sense.
func FuzzBackup(f *testing.F) {
	head := `{"backup":{"format":1,"version":"v1","time":"2026-03-01T00:00:00Z","prefix":"/","revision":5,"store":{"store":"01JN7W9S40A000000000000001","base":0,"format":2}}}` + "\n"
	commit := `{"revision":2,"stream":"catalogue","id":"01JN7W9S40A000000000000001","commit":{"v":1}}` + "\n"
	for _, seed := range []string{
		"", "{", head, head + commit,
		head + `{"end":{"commits":0,"heads":0,"guards":0,"sha256":"` + sum(head) + `"}}`,
		head + commit + `{"head":"catalogue","commits":1,"revision":2}` + "\n" + `{"key":"hosts/h1","value":null}` + "\n",
		head + commit + `{"end":{"commits":1,"heads":0,"guards":0,"sha256":"` + sum(head+commit) + `"}}` + "\n",
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, packed bool) {
		if packed {
			data = packBytes(t, data)
		}
		taken := 0
		summary, err := backup.Read(strings.NewReader(string(data)), func(backup.Line) error { taken++; return nil })
		switch {
		case err == nil && taken != summary.Commits+summary.Heads+summary.Guards:
			t.Errorf("%d lines, and %+v", taken, summary)
		case err != nil && !errors.IsAny(err, backup.ErrDamaged, backup.ErrNoBackup, backup.ErrNewer):
			t.Errorf("%v", err)
		}
	})
}

func unpack(t *testing.T, content []byte) []string {
	t.Helper()
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	text, err := z.DecodeAll(content, nil)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

func pack(t *testing.T, lines []string) []byte {
	t.Helper()
	return packBytes(t, []byte(strings.Join(lines, "\n")+"\n"))
}

func packBytes(t *testing.T, text []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstd.MinWindowSize))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = z.Close() }()
	return z.EncodeAll(text, nil)
}

func sum(text string) string {
	s := sha256.Sum256([]byte(text))
	return hex.EncodeToString(s[:])
}
