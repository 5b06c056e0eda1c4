// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/errors"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// maxSocketPath is what sockaddr_un holds beside its closing zero byte.
const maxSocketPath = 107

// A place is where on the disk a server lives.
type place struct {
	dir    string // the data directory the user named, made absolute
	home   string // etcd's own folder in it, closed to others
	socket string // where clients on this machine call
	lock   string // whose flock tells the living server; holds its pid
	db     string // etcd's database file
	wal    string // the folder of its write-ahead log
}

func placeIn(dir string) place {
	if abs, err := filepath.Abs(dir); err == nil && dir != "" {
		dir = abs // else the working directory is gone, and prepare says so
	}
	home := filepath.Join(dir, "etcd")
	return place{
		dir:    dir,
		home:   home,
		socket: filepath.Join(home, "socket"),
		lock:   filepath.Join(home, "lock"),
		db:     filepath.Join(home, "member", "snap", "db"),
		wal:    filepath.Join(home, "member", "wal"),
	}
}

// url is the socket as etcd and its clients name it. They decode what they
// dial, so that what is special in a URL must be encoded.
func (at place) url() url.URL { return url.URL{Scheme: "unix", Path: at.socket} }

func (at place) endpoint() string {
	u := at.url()
	return u.String()
}

// prepare makes the directories and sees to it that others are kept out.
//
// A data directory that exists keeps its mode, for it is the user's; but
// nobody else may be able to put another folder in the place of etcd's.
func (at place) prepare() error {
	if at.dir == "" {
		return errors.New("no data directory is named: name one with --data-dir")
	}
	if excess := len(at.socket) - maxSocketPath; excess > 0 {
		return errors.Newf("the path of the data directory %s is %d bytes too long for a unix socket: name a shorter one with --data-dir", at.dir, excess)
	}
	err := os.MkdirAll(at.dir, 0o700)
	if errors.Is(err, unix.ENOTDIR) {
		return errors.Newf("the data directory %s is not a directory: name another with --data-dir", at.dir)
	}
	if err != nil {
		return errors.Wrapf(err, "make the data directory %s", at.dir)
	}
	info, err := os.Stat(at.dir)
	if err != nil {
		return errors.Wrapf(err, "look at the data directory %s", at.dir)
	}
	if err := ownedByUs(info, at.dir); err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return errors.Newf("others may write to the data directory %s (mode %04o): run chmod go-w on it, or name another with --data-dir", at.dir, mode)
	}
	if err := os.Mkdir(at.home, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return errors.Wrapf(err, "make etcd's folder %s", at.home)
	}
	return closeToOthers(at.home, fs.ModeDir|0o700)
}

// closeSocketToOthers leaves the socket to its owner. Up to here the folder it
// is in has kept others away.
func (at place) closeSocketToOthers() error {
	return closeToOthers(at.socket, fs.ModeSocket|0o600)
}

// closeToOthers sets the permissions of path and then looks whether they hold:
// some file systems take a chmod and ignore it.
func closeToOthers(path string, mode fs.FileMode) error {
	info, err := os.Lstat(path)
	if err != nil {
		return errors.Wrapf(err, "look at %s", path)
	}
	if info.Mode().Type() != mode.Type() {
		return errors.Newf("%s is not what belongs there (%s): move it away, or name another data directory with --data-dir", path, info.Mode())
	}
	if err := ownedByUs(info, path); err != nil {
		return err
	}
	if err := os.Chmod(path, mode.Perm()); err != nil {
		return errors.Wrapf(err, "keep others out of %s", path)
	}
	if info, err = os.Lstat(path); err != nil {
		return errors.Wrapf(err, "look at %s", path)
	}
	if info.Mode() != mode {
		return errors.Newf("others cannot be kept out of %s (its mode stays %s): name a data directory on a file system with permissions with --data-dir", path, info.Mode())
	}
	return nil
}

func ownedByUs(info fs.FileInfo, path string) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.Newf("the owner of %s cannot be told on this system", path)
	}
	if us := os.Geteuid(); int(stat.Uid) != us {
		return errors.Newf("%s belongs to user %d and not to user %d who runs this: run chown on it, or name another data directory with --data-dir", path, stat.Uid, us)
	}
	return nil
}

// take locks the place for this process, until the file returned is closed or
// the process is gone. It never waits.
func (at place) take() (*os.File, error) {
	file, err := os.OpenFile(at.lock, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, errors.Wrapf(err, "open the lock on the data directory %s", at.dir)
	}
	if err := at.takeAs(file); err != nil {
		return nil, errors.CombineErrors(err, file.Close())
	}
	return file, nil
}

func (at place) takeAs(file *os.File) error {
	err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return at.inUseBy(holderOf(at.lock))
	}
	if err != nil {
		return errors.Wrapf(err, "lock the data directory %s", at.dir)
	}
	pid := fmt.Appendf(nil, "%d\n", os.Getpid())
	if err := file.Truncate(0); err != nil {
		return errors.Wrapf(err, "write our pid into %s", at.lock)
	}
	if _, err := file.WriteAt(pid, 0); err != nil {
		return errors.Wrapf(err, "write our pid into %s", at.lock)
	}
	return nil
}

func (at place) inUseBy(whom string) error {
	return errors.Newf("the data directory %s is in use by %s: stop that first, or name another with --data-dir", at.dir, whom)
}

// holderOf reads the pid in a lock file. A holder that has only just locked
// has not written it yet.
func holderOf(lock string) string {
	content, err := os.ReadFile(lock)
	if err != nil {
		return "another process"
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return "another process"
	}
	return fmt.Sprintf("process %d", pid)
}

// checkDatabase looks at the database file before etcd does: where that would
// wait for ever (the file is held by another program, an etcdutl say) or take
// the process down (the file is damaged), this gives an error.
func (at place) checkDatabase() (err error) {
	// The library, too, answers some damage with a panic, or reads beyond the file.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = at.damaged("etcd's database cannot be read")
		}
	}()
	info, err := os.Stat(at.db)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil // a first start, or one that was killed
	}
	if err != nil {
		return errors.Wrapf(err, "look at etcd's database %s", at.db)
	}
	db, err := bbolt.Open(at.db, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Millisecond})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return at.inUseBy("another program that has opened etcd's database there")
	}
	if err != nil {
		return at.damaged("etcd's database: " + err.Error())
	}
	if err := sound(db, at.wal, info.Size()); err != nil {
		return errors.CombineErrors(at.damaged(err.Error()), db.Close())
	}
	return errors.Wrapf(db.Close(), "close etcd's database %s", at.db)
}

// sound looks at the roots of a database, and at what ties it to the write-ahead log in
// the folder wal.
func sound(db *bbolt.DB, wal string, size int64) error {
	return db.View(func(tx *bbolt.Tx) error { //nolint:wrapcheck // at.damaged says what it is
		if tx.Size() > size {
			return errors.New("etcd's database is cut off")
		}
		// Etcd would take a write-ahead log of its own making, and not apply what is
		// written first: it holds that for what the database has already.
		if meta := tx.Bucket([]byte("meta")); meta != nil && slices.Max(append(meta.Get([]byte("consistent_index")), 0)) > 0 {
			if logs, err := filepath.Glob(filepath.Join(wal, "*.wal")); err != nil || len(logs) == 0 {
				return errors.New("etcd's write-ahead log is gone")
			}
		}
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			b.Cursor().First()
			b.Cursor().Last()
			return nil
		})
	})
}

// size is how many bytes etcd's database has.
func (at place) size() int64 {
	info, err := os.Stat(at.db)
	if err != nil {
		return 0 // it is not there yet
	}
	return info.Size()
}

// damaged says what to do about files that etcd cannot use.
func (at place) damaged(why string) error {
	return errors.Newf("the embedded etcd cannot use what is in %s (%s): if it is damaged, move the data directory away, and make a new one of a backup with `ipamlog restore FILE`", at.home, why)
}

// full says what to do about a disk without space.
func (at place) full() error {
	return errors.Mark(errors.Newf("the disk of the data directory %s is full: free some space there and start again", at.dir), unix.ENOSPC)
}
