// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"io"
	stdlog "log" //nolint:depguard // net/http takes no other logger
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/coreos/go-systemd/v22/activation"
	"github.com/rs/zerolog"
)

var (
	// ErrSocketInUse is returned by [Listen] when somebody answers on the socket.
	ErrSocketInUse = errors.New("another process serves the plugin socket")
	// ErrSocket is returned by [Listen] when the socket cannot be made.
	ErrSocket = errors.New("the plugin socket cannot be made")
)

// maxSocketPath is how long the kernel lets a socket's path be (unix(7)).
const maxSocketPath = 107

// socket is a listener that takes its file away when it is closed.
type socket struct {
	*net.UnixListener
	path string
	once sync.Once
}

// Listen makes the plugin socket, open for root alone, or for a group beside it
// when one is named. A file that a killed daemon left is replaced; somebody
// alive behind it is [ErrSocketInUse]. Closing the listener removes the file:
// Docker waits 15 s on a socket that nobody answers.
//
// If systemd has made the socket (sd_listen_fds(3)), that is taken as it is, and stays
// when the listener is closed: who connects then waits for the next daemon.
func Listen(path, group string) (net.Listener, error) {
	if l, err := passed(path); l != nil || err != nil {
		return l, err
	}
	mode, gid, err := permissions(group)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, unmakeable(path, err)
	}
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = conn.Close()
		return nil, errors.Mark(errors.Newf("another process serves the plugin socket %s: stop it, or choose another --socket", path), ErrSocketInUse)
	}
	if there, err := os.Lstat(path); err == nil && there.Mode().Type() != os.ModeSocket {
		return nil, errors.Wrapf(ErrSocket, "%s is no socket, and is left alone: remove it, or choose another --socket", path)
	}
	// Made where only the owner can reach it, and moved into place when it has
	// its owner and mode, so that at no moment somebody else can open it.
	private, err := os.MkdirTemp(dir, ".new")
	if err != nil {
		return nil, unmakeable(path, err)
	}
	defer func() { _ = os.RemoveAll(private) }()
	fresh := filepath.Join(private, "s")
	if longest := max(len(path), len(fresh)); longest > maxSocketPath {
		return nil, errors.Wrapf(ErrSocket, "the path %s is too long for the kernel: choose a --socket shorter by %d bytes", path, longest-maxSocketPath)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, unmakeable(path, err)
	}
	l.SetUnlinkOnClose(false)
	for _, step := range []func() error{
		func() error { return os.Chown(fresh, -1, gid) },
		func() error { return os.Chmod(fresh, mode) },
		func() error { return os.Rename(fresh, path) },
	} {
		if err := step(); err != nil {
			_ = l.Close()
			return nil, unmakeable(path, err)
		}
	}
	return &socket{UnixListener: l, path: path}, nil
}

// unmakeable says what to do about a socket that the system does not let be made.
func unmakeable(path string, err error) error {
	// Of what was tried the last step's reason is enough: the names on the way are
	// our own.
	var why syscall.Errno
	if errors.As(err, &why) {
		err = why
	}
	return errors.Mark(errors.Newf("the plugin socket %s cannot be made (%v): run this as root, or choose another --socket", path, err), ErrSocket)
}

// passed is the socket that systemd listens on for this process; nil if it does not.
func passed(path string) (net.Listener, error) {
	listeners, err := activation.Listeners()
	if err != nil {
		return nil, errors.Mark(errors.Wrap(err, "take the plugin socket from systemd"), ErrSocket)
	}
	switch {
	case len(listeners) == 0:
		return nil, nil //nolint:nilnil // most are started without one
	case len(listeners) == 1 && listeners[0] != nil && listeners[0].Addr().String() == path:
		return listeners[0], nil
	}
	for _, l := range listeners {
		if l != nil {
			_ = l.Close()
		}
	}
	return nil, errors.Wrapf(ErrSocket, "systemd passes other sockets than %s: let ipamlog.socket listen on that alone, or choose its path for --socket", path)
}

// Close implements [net.Listener].
func (s *socket) Close() error {
	err := s.UnixListener.Close()
	s.once.Do(func() {
		if gone := os.Remove(s.path); gone != nil && !os.IsNotExist(gone) && err == nil {
			err = gone
		}
	})
	return errors.Wrap(err, "close the plugin socket")
}

func permissions(group string) (os.FileMode, int, error) {
	if group == "" {
		return 0o600, -1, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, 0, errors.Wrapf(ErrSocket, "there is no group %q: create it, or choose another --socket-group", group)
	}
	gid, err := strconv.Atoi(g.Gid)
	return 0o660, gid, errors.Wrapf(err, "read the id of group %s", group)
}

// quietLog brings what net/http has to say into our log. It is about clients
// that misbehave, and nothing to wake anybody for.
func quietLog(log zerolog.Logger) *stdlog.Logger {
	return stdlog.New(writerFunc(func(line []byte) (int, error) {
		log.Debug().Msg(strings.TrimSpace(string(line)))
		return len(line), nil
	}), "", 0)
}

type writerFunc func([]byte) (int, error)

var _ io.Writer = writerFunc(nil)

// Write implements [io.Writer].
func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
