// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/plugin"
)

// shortDir is a directory whose path leaves room for a socket's name.
func shortDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func listen(tb testing.TB, path, group string) net.Listener {
	tb.Helper()
	l, err := plugin.Listen(path, group)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	return l
}

func TestSocketIsClosedToOthers(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	mine, err := user.LookupGroupId(me.Gid)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		group string
		mode  os.FileMode
	}{{"", 0o600}, {mine.Name, 0o660}} {
		dir := shortDir(t)
		path := filepath.Join(dir, "plugins", "ipamlog.sock") // a directory that is not there yet
		l := listen(t, path, tt.group)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != os.ModeSocket|tt.mode {
			t.Errorf("group %q: mode %s", tt.group, info.Mode())
		}
		owner := info.Sys().(*syscall.Stat_t)
		if strconv.Itoa(int(owner.Uid)) != me.Uid || strconv.Itoa(int(owner.Gid)) != me.Gid {
			t.Errorf("group %q: owner %d:%d", tt.group, owner.Uid, owner.Gid)
		}
		left, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(left) != 1 {
			t.Errorf("beside it: %v, %v", left, err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("left after the end: %v", err)
		}
		_ = l.Close() // once more is harmless
	}
}

func TestSocketOfADeadDaemonIsReplaced(t *testing.T) {
	path := filepath.Join(shortDir(t), "ipamlog.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	l := listen(t, path, "")
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	// Somebody alive is not.
	_, err = plugin.Listen(path, "")
	if !errors.Is(err, plugin.ErrSocketInUse) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "--socket") {
		t.Errorf("got %v", err)
	}
	if conn, err = net.Dial("unix", path); err != nil {
		t.Fatalf("the refused one took the socket away: %v", err)
	}
	_ = conn.Close()
	_ = l.Close()
}

func TestSocketIsRefused(t *testing.T) {
	dir := shortDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ path, group, says string }{
		"too long":             {filepath.Join(dir, strings.Repeat("x", 100)), "", "shorter by"},
		"a file in its place":  {file, "", "no socket"},
		"a directory":          {dir, "", "no socket"},
		"below a file":         {filepath.Join(file, "ipamlog.sock"), "", "directory"},
		"no such group":        {filepath.Join(dir, "a.sock"), "no-such-group", `no group "no-such-group"`},
		"too long by the rest": {filepath.Join(dir, strings.Repeat("y", 60), strings.Repeat("z", 40)), "", "shorter by"},
	} {
		_, err := plugin.Listen(tt.path, tt.group)
		if !errors.Is(err, plugin.ErrSocket) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Errorf("the file is now %q, %v", text, err)
	}
}
