// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/embedded"
)

// daemonDir is the environment variable that makes this binary a daemon.
const daemonDir = "EMBEDDED_TEST_DAEMON_DIR"

// daemon serves dir and writes keys, one after the other, saying each on its
// standard output once etcd has acknowledged it, until it is killed.
func daemon(dir string) {
	starting, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := embedded.Start(starting, embedded.Options{
		Dir: dir, TickMs: 10, Log: zerolog.New(os.Stderr),
		LastWords: func(reason string) { fmt.Println("last words:", reason) },
	})
	if err != nil {
		fmt.Println("refused:", err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		key := fmt.Sprintf("acknowledged/%d/%d", os.Getpid(), i)
		if _, err := s.Client().Put(context.Background(), key, "v"); err != nil {
			fmt.Println("refused:", err)
			os.Exit(1)
		}
		fmt.Println(key)
	}
}

// startDaemon starts such a process. What it says is read with the scanner.
func startDaemon(t *testing.T, dir string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), daemonDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

// A daemon is killed again and again, a while after its first writes or still
// in its start; what it acknowledged is there afterwards, and the next start
// needs nobody's help.
func TestKilledAgainAndAgain(t *testing.T) {
	dir := dataDir(t)
	acknowledged := map[string]bool{}
	for round := range 8 {
		cmd, says := startDaemon(t, dir)
		if round%2 == 0 {
			for range 1 + rand.IntN(200) {
				if !says.Scan() {
					t.Fatal("the daemon ended by itself")
				}
				note(t, acknowledged, says.Text())
			}
		} else {
			<-time.After(rand.N(150 * time.Millisecond)) // anywhere in its start
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for says.Scan() { // said before it died
			note(t, acknowledged, says.Text())
		}
		_ = cmd.Wait()
	}

	s := start(t, quick(dir))
	kept, err := s.Client().Get(t.Context(), "acknowledged/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range kept.Kvs {
		delete(acknowledged, string(kv.Key))
	}
	if len(acknowledged) > 0 {
		t.Errorf("%d acknowledged writes are lost (%d kept)", len(acknowledged), len(kept.Kvs))
	}
	if len(kept.Kvs) == 0 {
		t.Error("nothing was ever written")
	}
}

// note takes only whole lines: the last one may be cut short by the kill.
func note(t *testing.T, acknowledged map[string]bool, line string) {
	t.Helper()
	if strings.HasPrefix(line, "refused:") {
		t.Fatal(line)
	}
	acknowledged[line] = true
}

func TestAnotherProcessIsNamedInTheRefusal(t *testing.T) {
	dir := dataDir(t)
	cmd, says := startDaemon(t, dir)
	if !says.Scan() {
		t.Fatal("the daemon ended by itself")
	}
	_, err := embedded.Start(t.Context(), quick(dir))
	if want := fmt.Sprintf("process %d:", cmd.Process.Pid); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the refusal is %v, want one naming %q", err, want)
	}
	// A reader that knows only the directory gets in.
	reader := dial(t, embedded.Endpoint(dir))
	got, err := reader.Get(t.Context(), "acknowledged/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || got.Count == 0 {
		t.Errorf("a reader in another process saw %v, %v", got, err)
	}
}

// Each in a process of its own, because etcd leaves what it opened before it found
// the damage.
func TestDamagedFilesAreRefused(t *testing.T) {
	rubbish := bytes.Repeat([]byte("rubbish!"), 4096)
	overwrite := func(pattern string, with []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			files, err := filepath.Glob(filepath.Join(dir, "etcd", "member", pattern))
			if err != nil || len(files) == 0 {
				t.Fatal(files, err)
			}
			for _, file := range files {
				if err := os.WriteFile(file, with, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			if err := os.RemoveAll(filepath.Join(dir, "etcd", "member", name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, damage := range map[string]func(*testing.T, string){
		"write-ahead log of rubbish": overwrite("wal/*.wal", rubbish),
		"write-ahead log of zeros":   overwrite("wal/*.wal", make([]byte, 1<<16)),
		"write-ahead log of nothing": overwrite("wal/*.wal", nil),
		"no write-ahead log":         remove("wal"),
		"database of rubbish":        overwrite("snap/db", rubbish),
		"database of zeros":          overwrite("snap/db", make([]byte, 1<<16)),
		"database of a few bytes":    overwrite("snap/db", []byte("rubbish!")),
		"database cut off": func(t *testing.T, dir string) {
			t.Helper()
			if err := os.Truncate(filepath.Join(dir, "etcd", "member", "snap", "db"), 2*int64(os.Getpagesize())); err != nil {
				t.Fatal(err)
			}
		},
		"database's pages of rubbish": func(t *testing.T, dir string) {
			t.Helper()
			f, err := os.OpenFile(filepath.Join(dir, "etcd", "member", "snap", "db"), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			for at := 2 * int64(os.Getpagesize()); at < info.Size(); at += int64(len(rubbish)) {
				if _, err := f.WriteAt(rubbish[:min(int64(len(rubbish)), info.Size()-at)], at); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := dataDir(t)
			start(t, quick(dir)).Close()
			damage(t, dir)
			cmd, says := startDaemon(t, dir)
			var said []string
			for len(said) < 3 && says.Scan() {
				said = append(said, says.Text())
			}
			t.Logf("%q", said)
			if len(said) != 1 || !strings.Contains(said[0], dir) || !strings.Contains(said[0], "`ipamlog restore FILE`") || strings.Contains(said[0], "runtime error") {
				t.Errorf("it said %q", said)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("and ended as if all were well")
			}
		})
	}
}
