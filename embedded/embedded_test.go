// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ipamlog/ipamlog/embedded"
)

// dataDir is a directory that is not made yet.
func dataDir(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(tb.TempDir(), "data")
}

// quick are options for tests that care for neither durability nor defaults.
func quick(dir string) embedded.Options {
	return embedded.Options{Dir: dir, NoFsync: true, TickMs: 10}
}

func start(tb testing.TB, opts embedded.Options) *embedded.Server {
	tb.Helper()
	s, err := embedded.Start(tb.Context(), opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

func dial(tb testing.TB, endpoint string) *clientv3.Client {
	tb.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { client.Close() })
	return client
}

func put(tb testing.TB, client *clientv3.Client, key, value string) int64 {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
	defer cancel()
	got, err := client.Put(ctx, key, value)
	if err != nil {
		tb.Fatalf("put %s: %v", key, err)
	}
	return got.Header.Revision
}

func get(tb testing.TB, client *clientv3.Client, key string) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
	defer cancel()
	got, err := client.Get(ctx, key)
	if err != nil {
		tb.Fatalf("get %s: %v", key, err)
	}
	if len(got.Kvs) != 1 {
		return ""
	}
	return string(got.Kvs[0].Value)
}

// eventually polls, for things that happen in their own time.
func eventually(tb testing.TB, what string, happened func() bool) {
	tb.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !happened() {
		if time.Now().After(deadline) {
			tb.Fatalf("waited 2 minutes for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestServesBothClientsAndKeepsDataOverARestart(t *testing.T) {
	opts := quick(dataDir(t))
	first := start(t, opts)
	put(t, first.Client(), "inside", "1")
	put(t, dial(t, first.Endpoint()), "outside", "2")
	first.Close()

	second := start(t, opts)
	if diff := cmp.Diff(first.Endpoint(), embedded.Endpoint(opts.Dir)); diff != "" {
		t.Errorf("Endpoint(dir) and Server.Endpoint differ: %s", diff)
	}
	if got := get(t, second.Client(), "outside"); got != "2" {
		t.Errorf("put from outside, read inside: %q", got)
	}
	if got := get(t, dial(t, embedded.Endpoint(opts.Dir)), "inside"); got != "1" {
		t.Errorf("put inside, read from outside: %q", got)
	}
}

func TestStartThatTakesLongIsToldOf(t *testing.T) {
	var log lockedBuffer
	opts := quick(dataDir(t))
	opts.Log, opts.TellEvery = zerolog.New(&log), time.Microsecond
	start(t, opts)
	if !strings.Contains(log.String(), "still starting") {
		t.Errorf("nothing was told of a start that took longer than its time:\n%s", log.String())
	}
}

func TestDirectoriesOfAnyName(t *testing.T) {
	for _, name := range []string{"a b", "50%", "%41", "what?", "a#b", "käse", "a:b", "a=b,c", "it's"} {
		t.Run(name, func(t *testing.T) {
			s := start(t, quick(filepath.Join(dataDir(t), name)))
			put(t, dial(t, s.Endpoint()), "k", "v")
			if got := get(t, s.Client(), "k"); got != "v" {
				t.Errorf("read %q", got)
			}
		})
	}
}

func TestRelativeDirectory(t *testing.T) {
	dir := dataDir(t)
	t.Chdir(filepath.Dir(dir))
	s := start(t, quick("data"))
	if want := "unix://" + filepath.Join(dir, "etcd", "socket"); s.Endpoint() != want {
		t.Errorf("endpoint %s, want %s", s.Endpoint(), want)
	}
	t.Chdir("/")
	put(t, dial(t, s.Endpoint()), "k", "v")
}

func TestOnlyTheOwnerGetsIn(t *testing.T) {
	dir := dataDir(t)
	// As in a shell whose umask takes nothing away, over folders left open.
	if err := os.MkdirAll(filepath.Join(dir, "etcd"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "etcd"), 0o777); err != nil {
		t.Fatal(err)
	}
	start(t, quick(dir))
	fresh := dataDir(t)
	start(t, quick(fresh))

	for path, want := range map[string]fs.FileMode{
		fresh:                                fs.ModeDir | 0o700,
		filepath.Join(dir, "etcd"):           fs.ModeDir | 0o700,
		filepath.Join(dir, "etcd", "socket"): fs.ModeSocket | 0o600,
		filepath.Join(dir, "etcd", "lock"):   0o600,
	} {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %s, want %s", path, info.Mode(), want)
		}
	}
}

func TestRefusals(t *testing.T) {
	long := strings.Repeat("d", 96-len("/tmp/"))
	for _, tc := range []struct {
		name    string
		dir     func(t *testing.T) string
		want    string // part of the sentence
		advises string
	}{
		{
			name:    "no directory",
			dir:     func(*testing.T) string { return "" },
			want:    "no data directory is named",
			advises: "--data-dir",
		},
		{
			name:    "too long by one",
			dir:     func(*testing.T) string { return "/tmp/" + long },
			want:    "1 bytes too long for a unix socket",
			advises: "name a shorter one with --data-dir",
		},
		{
			name: "a file",
			dir: func(t *testing.T) string {
				t.Helper()
				dir := dataDir(t)
				if err := os.WriteFile(dir, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				return dir
			},
			want:    "is not a directory",
			advises: "--data-dir",
		},
		{
			name: "writable by others",
			dir: func(t *testing.T) string {
				t.Helper()
				dir := filepath.Dir(dataDir(t))
				if err := os.Chmod(dir, 0o777); err != nil {
					t.Fatal(err)
				}
				return dir
			},
			want:    "others may write to the data directory",
			advises: "chmod go-w",
		},
		{
			name: "etcd's folder is a link",
			dir: func(t *testing.T) string {
				t.Helper()
				dir := filepath.Dir(dataDir(t))
				if err := os.Symlink("/tmp", filepath.Join(dir, "etcd")); err != nil {
					t.Fatal(err)
				}
				return dir
			},
			want:    "is not what belongs there",
			advises: "move it away",
		},
		{
			name: "damaged database",
			dir: func(t *testing.T) string {
				t.Helper()
				dir := dataDir(t)
				start(t, quick(dir)).Close()
				db := filepath.Join(dir, "etcd", "member", "snap", "db")
				if err := os.WriteFile(db, bytes.Repeat([]byte("rubbish!"), 4096), 0o600); err != nil {
					t.Fatal(err)
				}
				return dir
			},
			want:    "cannot use what is in",
			advises: "`ipamlog restore FILE`",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := embedded.Start(t.Context(), quick(tc.dir(t)))
			if err == nil {
				s.Close()
				t.Fatal("started")
			}
			if !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), tc.advises) || strings.Contains(err.Error(), "\n") {
				t.Errorf("the refusal is %q, want one sentence with %q and %q", err, tc.want, tc.advises)
			}
		})
	}
}

func TestLongestDirectoryWorks(t *testing.T) {
	base := dataDir(t)
	dir := base + strings.Repeat("d", 95-len(base))
	put(t, dial(t, start(t, quick(dir)).Endpoint()), "k", "v")
}

func TestSecondOnTheSameDirectoryIsRefusedAtOnce(t *testing.T) {
	opts := quick(dataDir(t))
	first := start(t, opts)
	began := time.Now()
	second, err := embedded.Start(t.Context(), opts)
	if err == nil {
		second.Close()
		t.Fatal("two servers on one directory")
	}
	if want := fmt.Sprintf("in use by process %d:", os.Getpid()); !strings.Contains(err.Error(), want) {
		t.Errorf("the refusal %q does not say %q", err, want)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("the refusal took %s", took)
	}
	put(t, dial(t, first.Endpoint()), "k", "the first is unharmed")
}

func TestDatabaseHeldByAnotherProgramIsRefusedAtOnce(t *testing.T) {
	opts := quick(dataDir(t))
	start(t, opts).Close()
	db, err := bbolt.Open(filepath.Join(opts.Dir, "etcd", "member", "snap", "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := embedded.Start(t.Context(), opts)
	if err == nil {
		s.Close()
		t.Fatal("started on a database somebody else has open")
	}
	if !strings.Contains(err.Error(), "in use by another program") {
		t.Errorf("the refusal is %q", err)
	}
}

func TestStaleSocketDoesNotStopTheStart(t *testing.T) {
	opts := quick(dataDir(t))
	start(t, opts).Close()
	socket := filepath.Join(opts.Dir, "etcd", "socket")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	listener.Close()
	if _, err := os.Lstat(socket); err != nil {
		t.Fatal("there is no stale socket to begin with:", err)
	}
	put(t, dial(t, start(t, opts).Endpoint()), "k", "v")
}

func TestCloseIsQuickAndLeavesNoSocket(t *testing.T) {
	for range 10 { // each of which might wait
		closeQuickly(t)
	}
}

func closeQuickly(t *testing.T) {
	t.Helper()
	s := start(t, quick(dataDir(t)))
	outside := dial(t, s.Endpoint())
	put(t, outside, "k", "v")
	// Watches that nobody ends must not hold the server back.
	watches := []clientv3.WatchChan{
		outside.Watch(t.Context(), "k", clientv3.WithCreatedNotify()),
		s.Client().Watch(t.Context(), "k", clientv3.WithCreatedNotify()),
	}
	for _, watch := range watches {
		<-watch
	}
	began := time.Now()
	var all sync.WaitGroup
	for range 3 {
		all.Go(s.Close)
	}
	all.Wait()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("closing took %s", took)
	}
	eventually(t, "the in-process watch to end", func() bool {
		select {
		case _, open := <-watches[1]:
			return !open
		default:
			return false
		}
	})
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(strings.TrimPrefix(s.Endpoint(), "unix://")), "*sock*")); len(left) > 0 {
		t.Errorf("left behind: %s", left)
	}
}

func TestCallsAfterCloseFail(t *testing.T) {
	s := start(t, quick(dataDir(t)))
	put(t, s.Client(), "k", "v")
	s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for name, call := range map[string]func() error{
		"put":               func() error { _, err := s.Client().Put(ctx, "k", "w"); return err },
		"get":               func() error { _, err := s.Client().Get(ctx, "k"); return err },
		"serializable get":  func() error { _, err := s.Client().Get(ctx, "k", clientv3.WithSerializable()); return err },
		"status":            func() error { _, err := s.Client().Status(ctx, ""); return err },
		"defragment":        func() error { _, err := s.Client().Defragment(ctx, ""); return err },
		"snapshot":          func() error { _, err := s.Client().Snapshot(ctx); return err },
		"empty transaction": func() error { _, err := s.Client().Txn(ctx).Commit(); return err },
	} {
		if err := call(); !errors.Is(err, rpctypes.ErrStopped) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Client().Grant(ctx, 10); err == nil {
		t.Error("a lease was granted")
	}
	if _, open := <-s.Client().Watch(ctx, "k"); open {
		t.Error("a watch opened")
	}
}

func TestRun(t *testing.T) {
	s := start(t, quick(dataDir(t)))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run on a context that ended: %v", err)
	}
	put(t, s.Client(), "k", "the server outlives Run")

	result := make(chan error)
	go func() { result <- s.Run(t.Context()) }()
	s.Close()
	if err := <-result; err != nil {
		t.Errorf("Run of a closed server: %v", err)
	}
}

func TestRunTellsWhenEtcdStopsByItself(t *testing.T) {
	s := start(t, quick(dataDir(t)))
	result := make(chan error)
	go func() { result <- s.Run(t.Context()) }()
	embedded.StopEtcd(s)
	select {
	case err := <-result:
		if err == nil || !strings.Contains(err.Error(), "stopped by itself") {
			t.Errorf("Run returned %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Run noticed nothing")
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	opts := quick(dataDir(t))
	opts.TickMs = 8000 // so that there is time for the context to end
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s, err := embedded.Start(ctx, opts)
	if err == nil {
		s.Close()
		t.Fatal("started")
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("failed with %v", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("gave up after %s only", took)
	}
	start(t, quick(opts.Dir)) // and has let go of the directory
}

// A start and a stop are no news: nothing at warn or above, and nothing that
// bypasses the logger.
func TestQuietInTheLog(t *testing.T) {
	stderr := os.Stderr
	captured, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	os.Stderr = captured
	defer func() { os.Stderr = stderr }()

	var log lockedBuffer
	opts := quick(dataDir(t))
	opts.Log = zerolog.New(&log)
	for range 5 {
		s, err := embedded.Start(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		put(t, s.Client(), "k", "v")
		s.Close()
	}
	for line := range strings.Lines(log.String()) {
		if !strings.Contains(line, `"level":"debug"`) {
			t.Errorf("logged: %s", line)
		}
	}
	if !strings.Contains(log.String(), "not cryptographically signed") {
		t.Error("etcd's voice does not reach the logger at all")
	}
	if said, _ := os.ReadFile(captured.Name()); len(said) > 0 {
		t.Errorf("on stderr: %s", said)
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
