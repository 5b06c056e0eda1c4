// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/errors"
)

// Host is one machine of a lab. Its disk (/etc, /var/lib, [Host.Dir], and the
// images, containers and networks of its engine) lasts as long as the lab; its
// /run, its processes and what became of its network last until it is rebooted.
// Its methods may be called from any goroutine.
type Host struct {
	lab    *Lab
	name   string
	number int // from 1; decides port and addresses
	dir    string

	mu         sync.Mutex // held while the host or its engine changes between up and down
	init       *initProcess
	containerd *Process
	dockerd    *Process
}

// initProcess is process 1 of a host. When it ends, the kernel ends all others
// of the host, and with them go its mounts and links.
type initProcess struct {
	ns   namespaces
	life io.Closer // the pipe init reads: closing it, or dying with it open, ends the host
	end  <-chan struct{}
}

// initScript is what init does. Waiting in the foreground makes it collect the
// orphans that are process 1's to collect. IPv6 addresses are usable at once, and
// not tentative for a second: nobody else has them, and what `ip addr` prints then
// only changes when somebody changes it.
const initScript = `
set -e
mount --make-rprivate /
mount -t proc none /proc
cat /proc/sys/kernel/random/uuid >"$1/boot_id"
mount --bind "$1/boot_id" /proc/sys/kernel/random/boot_id
mount --bind "$1/run" /run
mount --bind "$1/etc" /etc
mount --bind "$1/var-lib" /var/lib
echo "$2" >/proc/sys/kernel/hostname
echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
exec 3<&0
echo ready
cat <&3 >/dev/null &
wait $!
`

func newHost(l *Lab, name string, number int) *Host {
	return &Host{lab: l, name: name, number: number, dir: filepath.Join(l.dir, name)}
}

// Name is the hostname.
func (h *Host) Name() string { return h.name }

// PluginDir is where the test finds the host's /run/docker/plugins: a socket
// made here is a plugin of the host's engine. A reboot empties it.
func (h *Host) PluginDir() string { return filepath.Join(h.dir, "run", "docker", "plugins") }

// Dir is a directory of the host's own that survives reboots, under the same
// path inside and outside of it: for the files of a daemon under test.
func (h *Host) Dir() string { return filepath.Join(h.dir, "files") }

// Reboot pulls the power cord and starts the host again: all its processes die
// at once, containers included, and nothing of /run is left. The engine is not
// started.
func (h *Host) Reboot() error {
	if err := h.powerOff(); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(h.dir, "run")); err != nil {
		return errors.Wrap(err, "clear the host's /run")
	}
	return h.boot()
}

func (h *Host) boot() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.furnish(); err != nil {
		return errors.Wrapf(err, "furnish host %s", h.name)
	}
	cmd := exec.Command("sh", "-c", initScript, "lab-init", h.dir, h.name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is for the test, not for the host
	for _, n := range kinds {
		cmd.SysProcAttr.Cloneflags |= uintptr(n.flag)
	}
	in, err := startInit(cmd)
	if err != nil {
		return errors.Wrapf(err, "boot host %s", h.name)
	}
	h.init = in
	if err := h.lab.wire.plug(h.number, cmd.Process.Pid); err != nil {
		return err
	}
	return h.configureNetwork()
}

func startInit(cmd *exec.Cmd) (*initProcess, error) {
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, errors.Wrap(err, "make a pipe")
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Wrap(err, "make a pipe")
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return nil, errors.Wrap(err, "start its first process")
	}
	_, notReady := bufio.NewReader(stdout).ReadString('\n')
	ns, err := openNamespaces(fmt.Sprint(cmd.Process.Pid), kinds)

	end := make(chan struct{})
	go func() {
		defer close(end)
		_ = cmd.Wait() // killed or not: it was to end
	}()
	in := &initProcess{ns: ns, life: stdin, end: end}
	if notReady != nil || err != nil {
		err = errors.CombineErrors(err, in.powerOff())
		return nil, errors.CombineErrors(errors.Newf("its first process ended: %s", stderr.String()), err)
	}
	return in, nil
}

func (h *Host) powerOff() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.init == nil {
		return nil
	}
	err := h.init.powerOff()
	h.init, h.containerd, h.dockerd = nil, nil, nil
	return errors.CombineErrors(err, h.lab.wire.unplug(h.number))
}

// powerOff returns when every process of the host is gone, which the kernel
// sees to before init itself is.
func (in *initProcess) powerOff() error {
	var err error
	_ = in.life.Close() // fails only if init has ended by itself
	select {
	case <-in.end:
	case <-time.After(30 * time.Second):
		err = errors.CombineErrors(err, errors.New("the host's processes did not end within 30 s"))
	}
	return errors.CombineErrors(err, in.ns.close())
}

func (h *Host) namespaces() (namespaces, error) {
	in, err := h.running()
	if err != nil {
		return nil, err
	}
	return in.ns, nil
}

func (h *Host) running() (*initProcess, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.init == nil {
		return nil, errors.Newf("host %s is down: reboot it first", h.name)
	}
	return h.init, nil
}

// showLogs prints the end of each log, without dockerd's talk to containerd.
func (h *Host) showLogs(t T) {
	const most = 100
	logs, _ := filepath.Glob(filepath.Join(h.dir, "*.log"))
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Logf("host %s: %v", h.name, err)
			continue
		}
		lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(text)), "\n"), func(line string) bool {
			return line == "" || strings.Contains(line, "module=grpc")
		})
		if len(lines) > 0 {
			t.Logf("the end of %s of host %s:\n%s", filepath.Base(path), h.name, strings.Join(lines[max(0, len(lines)-most):], "\n"))
		}
	}
}
