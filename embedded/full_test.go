// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"golang.org/x/sys/unix"
)

// fillUp leaves only so many bytes of space on a file system, on which others may write
// meanwhile.
func fillUp(t *testing.T, disk string, spare int64) {
	t.Helper()
	f, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for size := int64(0); ; {
		var now unix.Statfs_t
		if err := unix.Statfs(disk, &now); err != nil {
			t.Fatal(err)
		}
		left := int64(now.Bavail)*now.Bsize - spare
		if left <= 0 {
			return
		}
		switch err := unix.Fallocate(int(f.Fd()), 0, size, left); {
		case errors.Is(err, unix.ENOSPC): // somebody was faster
		case err != nil:
			t.Fatal(err)
		default:
			size += left
		}
	}
}

// smallDisk is a file system of so many bytes.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	disk := t.TempDir()
	if err := unix.Mount("none", disk, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mount a small file system, as root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	return disk
}

// TestFullDisk: what is full is said, whether nothing fits on the disk, or only a part of
// what etcd begins with; and the same directory serves once there is room.
func TestFullDisk(t *testing.T) {
	for name, spare := range map[string]int64{"nothing fits": 0, "the write-ahead log does not fit": 8 << 20} {
		t.Run(name, func(t *testing.T) {
			disk := smallDisk(t, "64m")
			dir := filepath.Join(disk, "d")
			fillUp(t, disk, spare)
			cmd, says := startDaemon(t, dir)
			var said []string
			for len(said) < 3 && says.Scan() {
				said = append(said, says.Text())
			}
			if want := "refused: the disk of the data directory " + dir + " is full: free some space there and start again"; len(said) != 1 || said[0] != want {
				t.Errorf("it said %q, want %q", said, want)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("and ended as if all were well")
			}
			if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
				t.Fatal(err)
			}
			s := start(t, quick(dir))
			put(t, s.Client(), "k", "v")
			s.Close()
		})
	}
}

// TestDiskFillsUp: a daemon whose disk fills up under it says so with its last words, and
// the next start does.
func TestDiskFillsUp(t *testing.T) {
	disk := smallDisk(t, "64m")
	dir := filepath.Join(disk, "d")
	cmd, says := startDaemon(t, dir)
	if !says.Scan() || !strings.HasPrefix(says.Text(), "acknowledged/") {
		t.Fatalf("it said %q", says.Text())
	}
	acknowledged := says.Text()
	fillUp(t, disk, 0)
	untilFull := func(cmd *exec.Cmd, says *bufio.Scanner, ends ...string) {
		last := ""
		for says.Scan() {
			if last = says.Text(); strings.HasPrefix(last, "acknowledged/") {
				acknowledged = last
			}
		}
		if !slices.Contains(ends, last) {
			t.Errorf("its last words are %q, want one of %q", last, ends)
		}
		_ = cmd.Wait()
	}
	full := "the disk of the data directory " + dir + " is full"
	untilFull(cmd, says, "last words: "+full)
	// In a process of its own: etcd leaves what it opened before it failed. Its logs may
	// have had room to begin with.
	cmd, says = startDaemon(t, dir)
	untilFull(cmd, says, "last words: "+full, "refused: "+full+": free some space there and start again")
	if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
		t.Fatal(err)
	}
	s := start(t, quick(dir))
	if get(t, s.Client(), acknowledged) != "v" {
		t.Errorf("%s is lost", acknowledged)
	}
	s.Close()
}
