// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"golang.org/x/sys/unix"
)

const namePrefix = "ipamlog-lab-"

// claimDirectory makes a directory for a lab and locks it. The lock goes with
// the process however that ends, so an unlocked directory is that of a dead
// lab: those are cleared on the way.
func claimDirectory() (dir string, lock *os.File, err error) {
	// Locking the parent keeps a directory just made, and not yet locked, from
	// being taken for a dead one.
	parent, err := lockDirectory(os.TempDir(), unix.LOCK_EX)
	if err != nil {
		return "", nil, err
	}
	defer parent.Close()
	if err := clearDead(); err != nil {
		return "", nil, err
	}
	if dir, err = os.MkdirTemp("", namePrefix+"*"); err != nil {
		return "", nil, errors.Wrap(err, "make a directory for the lab")
	}
	lock, err = lockDirectory(dir, unix.LOCK_EX|unix.LOCK_NB)
	return dir, lock, err
}

func lockDirectory(dir string, how int) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, errors.Wrap(err, "open a directory")
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		return nil, errors.CombineErrors(errors.Wrapf(err, "lock %s", dir), f.Close())
	}
	return f, nil
}

func clearDead() error {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), namePrefix+"*"))
	if err != nil {
		return errors.Wrap(err, "look for dead labs")
	}
	for _, dir := range dirs {
		lock, err := lockDirectory(dir, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			continue // alive, or gone by now
		}
		err = errors.Join(removeCgroups(filepath.Base(dir)), os.RemoveAll(dir), lock.Close())
		if err != nil {
			return errors.Wrapf(err, "clear the dead lab %s", dir)
		}
	}
	return nil
}

// removeCgroups removes the lab's cgroups from every hierarchy. They are empty
// once its processes are gone, which the kernel may take a moment to notice.
func removeCgroups(lab string) error {
	mounts, err := cgroupMounts()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		err = nil
		late := poll(context.Background(), 10*time.Second, func() bool {
			err = removeCgroup(filepath.Join(m, lab))
			return err == nil
		})
		if late != nil {
			return errors.Wrap(err, "remove the lab's cgroups")
		}
	}
	return nil
}

// removeCgroup removes a cgroup and those inside it, the inner ones first.
func removeCgroup(path string) error {
	var dirs []string
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			dirs = append(dirs, p)
		}
		return nil
	})
	for _, d := range slices.Backward(dirs) {
		err = errors.CombineErrors(err, os.Remove(d))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// cgroupMounts are the roots of the cgroup hierarchies, of either version.
func cgroupMounts() ([]string, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return nil, errors.Wrap(err, "look for cgroups")
	}
	defer f.Close()
	var roots []string
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) > 2 && (fields[2] == "cgroup" || fields[2] == "cgroup2") {
			roots = append(roots, fields[1])
		}
	}
	return roots, nil
}
