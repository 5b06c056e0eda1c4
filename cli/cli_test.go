// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	_ "time/tzdata" // the scripts are set in Berlin

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ipamlog/ipamlog/cli"
	"github.com/ipamlog/ipamlog/embedded"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/replay/replaytest"
)

var update = flag.Bool("update", false, "write the golden files in the scripts anew")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"ipamlog": func() {
			root := cli.New(cli.Build{Version: "v1.2.3", Commit: "0123abc"})
			os.Exit(cli.Run(context.Background(), root, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

// TestScripts runs the commands as a user does, each script against stores of
// known content: one night below the usual prefix, and what a newer version
// wrote below /newer/; and in a store of its own, $MORNING, that night and the
// morning after it.
func TestScripts(t *testing.T) {
	store := replaytest.Start(t)
	store.Tell(t, "/ipamlog/v1/").Night()
	newer(store.Tell(t, "/newer/"))
	morning := replaytest.Start(t)
	teller := morning.Tell(t, "/ipamlog/v1/")
	teller.Night()
	teller.Morning()
	store.Tell(t, "/future/").Spoil("meta/store", `{"store":"01JN7W9S40A000000000000001","base":0,"format":99}`)
	deaf, dead := deafStore(t), deadDaemon(t)
	var told struct {
		sync.Mutex
		by   map[string]*replaytest.Teller
		next map[string]byte
	}
	told.by, told.next = map[string]*replaytest.Teller{}, map[string]byte{}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("TZ", "Europe/Berlin")
			env.Setenv("IPAMLOG_DATA_DIR", store.Dir)
			env.Setenv("MORNING", morning.Dir)
			env.Setenv("DEAF", deaf)
			env.Setenv("DEAD", dead)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": status,
			"until":  until,
			// tell /prefix/ writes what happens next below a prefix of the script's
			// own: first the night, then one more commit each time.
			"tell": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) != 1 {
					ts.Fatalf("usage: tell /prefix/")
				}
				told.Lock()
				defer told.Unlock()
				teller, begun := told.by[args[0]]
				if !begun {
					teller = store.Tell(t, args[0])
					told.by[args[0]] = teller
					teller.Night()
					return
				}
				told.next[args[0]]++
				n := told.next[args[0]]
				teller.Commit(events.PoolStream(replaytest.Web), "h1", replaytest.Clock(70+int(n), 0),
					replaytest.Allocated(100+n, fmt.Sprintf("10.50.0.%d", 100+int(n)), "h1", replaytest.GrantH1, fmt.Sprintf("next%d", n)))
			},
			// present /prefix/ has, in a story that was told there, a daemon of h1 be alive,
			// and one of h2 leave in good order.
			"present": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) != 1 {
					ts.Fatalf("usage: present /prefix/")
				}
				told.Lock()
				defer told.Unlock()
				told.by[args[0]].Spoil("alive/h1", `{"machine":"m1","incarnation":1,"version":"v1.0.0","engine":"29.0.1"}`)
				told.by[args[0]].Commit(events.Catalogue, "h2", replaytest.Clock(66, 0), events.HostLeft{Host: "h2", Incarnation: 1})
			},
			// spoil DIR changes a byte of the first segment in an archive.
			"spoil": func(ts *testscript.TestScript, neg bool, args []string) {
				segments, err := filepath.Glob(filepath.Join(args[0], "*.zst"))
				if neg || len(args) != 1 || err != nil || len(segments) == 0 {
					ts.Fatalf("usage: spoil DIR")
				}
				content, err := os.ReadFile(segments[0])
				ts.Check(err)
				content[len(content)/2] ^= 1
				ts.Check(os.WriteFile(segments[0], content, 0o600))
			},
			// forge /prefix/ gives, in a story that was told there, an address that is
			// held to another, and takes a guard away.
			"forge": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) != 1 {
					ts.Fatalf("usage: forge /prefix/")
				}
				told.Lock()
				defer told.Unlock()
				told.by[args[0]].Forge(events.Commit{
					Stream: events.PoolStream(replaytest.Web), Host: "h2", Incarnation: 1, Writer: "v1.0.0", Time: replaytest.Clock(65, 0),
					Events: []events.Event{replaytest.Allocated(99, "10.50.0.2", "h2", replaytest.GrantH2, "\x1b[31mthief")},
				})
				told.by[args[0]].Spoil("held/"+replaytest.Web.String()+"/10.50.0.4", "")
			},
		},
	})
}

// newer is a pool in which a version of the future has blessed an address.
func newer(t *replaytest.Teller) {
	web := events.PoolStream(replaytest.Web)
	t.Night()
	t.Raw(web, `{"v":1,"time":"2025-03-01T05:00:00Z","host":"h9","incarnation":1,"writer":"v9.0.0","events":[{"type":"address.blessed","address":"10.50.0.2","host":"h1","by":"the \u001b[31mpope"}]}`)
}

// status runs a command and demands its exit status: status 3 ipamlog who …
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N command [arg...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit status %s, want %s", got, args[0])
	}
}

// until waits for a text to be in a file: until out.txt web
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: until file text")
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && strings.Contains(string(text), args[1]) {
			return
		}
	}
	ts.Fatalf("%q never came into %s", args[1], args[0])
}

// deafStore is a socket that takes connections and never says a word.
func deafStore(t *testing.T) string {
	t.Helper()
	path := filepath.Join(shortDir(t), "deaf")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return path
}

// deadDaemon is a data directory with the socket of a daemon that was killed.
func deadDaemon(t *testing.T) string {
	t.Helper()
	dir := shortDir(t)
	if err := os.Mkdir(filepath.Join(dir, "etcd"), 0o700); err != nil {
		t.Fatal(err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: strings.TrimPrefix(embedded.Endpoint(dir), "unix://")})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// shortDir is a directory whose path leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ipl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
