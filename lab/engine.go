// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/cockroachdb/errors"
)

const (
	// startLimit is long because an engine whose plugin is away waits 15 s for
	// each of its networks before it answers.
	startLimit = 3 * time.Minute
	// stopLimit allows for containers that do not want to stop.
	stopLimit = 2 * time.Minute
)

// StartEngine starts the host's engine and returns when it answers and has the
// [Image]. The options are added to those of dockerd. There is no docker0 and
// so no default bridge network: containers name theirs.
func (h *Host) StartEngine(options ...string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return errors.Wrapf(h.startEngine(options), "start the engine of host %s", h.name)
}

func (h *Host) startEngine(options []string) error {
	if h.init == nil {
		return errors.New("the host is down: reboot it first")
	}
	if h.dockerd.alive() {
		return errors.New("it is started already: stop or kill it first")
	}
	if err := h.startContainerd(); err != nil {
		return err
	}
	var err error
	dockerd := exec.Command("dockerd", slices.Concat([]string{
		"--data-root", filepath.Join(h.dir, "docker"),
		"--containerd", "/run/containerd/containerd.sock",
		"--cgroup-parent", "/" + filepath.Join(h.lab.name, h.name),
		"--exec-opt", "native.cgroupdriver=cgroupfs", // others ask systemd, which is not of this host
		"--storage-driver", h.storageDriver(),
		"--bridge", "none",
	}, options)...)
	// It runs itself several times for each container, and each time would collect
	// the garbage of its own start.
	dockerd.Env = append(os.Environ(), "GOGC=1000")
	if h.dockerd, err = h.init.startLogged(h.dir, dockerd); err != nil {
		return err
	}
	if err := await(h.lab.ctx, "the engine", h.dockerd, startLimit, h.ping); err != nil {
		return errors.CombineErrors(err, h.dockerd.Kill())
	}
	return h.loadImage()
}

// storageDriver is overlay2, as on any host, where the disk can be under an overlay.
// Where it cannot, as on one that is an overlay itself, containers get copies of the
// image, which takes the machine longer than all else that starts them.
func (h *Host) storageDriver() string {
	const try = `mkdir -p "$1" && cd "$1" && mkdir -p lower upper work merged && mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay merged && umount merged`
	if _, err := h.init.exec(h.lab.ctx, "sh", "-c", try, "try-overlay", filepath.Join(h.dir, "overlay")); err != nil {
		return "vfs"
	}
	return "overlay2"
}

// startContainerd starts it unless it runs: as everywhere, it outlives dockerd.
func (h *Host) startContainerd() error {
	if h.containerd.alive() {
		return nil
	}
	config := filepath.Join(h.dir, "containerd.toml")
	text := fmt.Sprintf(containerdConfig, filepath.Join(h.dir, "containerd"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return errors.Wrap(err, "write the configuration of containerd")
	}
	var err error
	if h.containerd, err = h.init.startLogged(h.dir, exec.Command("containerd", "--config", config)); err != nil {
		return err
	}
	return await(h.lab.ctx, "containerd", h.containerd, startLimit, func() bool {
		c, err := net.Dial("unix", filepath.Join(h.dir, "run", "containerd", "containerd.sock"))
		return err == nil && c.Close() == nil
	})
}

// containerdConfig leaves out the plugins that the engine does not use, some of
// which write to directories the hosts would share.
const containerdConfig = `version = 2
root = %q
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing",
]
[debug]
level = "warn"
[grpc]
address = "/run/containerd/containerd.sock"
`

// StopEngine asks dockerd to end, which stops the containers first unless it
// runs with --live-restore, and waits until it has.
func (h *Host) StopEngine() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.dockerd.alive() {
		return errors.Newf("the engine of host %s does not run: start it first", h.name)
	}
	if err := h.dockerd.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-h.dockerd.Done():
	case <-time.After(stopLimit):
		return errors.Newf("the engine of host %s did not stop within %v", h.name, stopLimit)
	}
	return nil
}

// KillEngine ends dockerd as kill -9 does. Its containers go on running; the
// next engine finds them, and ends them unless it runs with --live-restore.
func (h *Host) KillEngine() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.dockerd.alive() {
		return errors.Newf("the engine of host %s does not run: start it first", h.name)
	}
	return h.dockerd.Kill()
}

func (h *Host) ping() bool {
	r, err := h.client().Get("http://engine/_ping")
	if err != nil {
		return false
	}
	defer r.Body.Close()
	return r.StatusCode == http.StatusOK
}

func (h *Host) loadImage() error {
	if _, err := h.Docker("image", "inspect", Image); err == nil {
		return nil
	}
	image, err := busyboxImage()
	if err != nil {
		return err
	}
	cmd := h.docker(h.lab.ctx, "load")
	cmd.Stdin = bytes.NewReader(image)
	_, err = output(cmd, (*exec.Cmd).Run)
	return errors.Wrap(err, "load the image")
}
