// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cockroachdb/errors"
)

const (
	// startPatience is how long the daemon may take until it answers, and
	// stopPatience how long until it has gone.
	startPatience = 20 * time.Second
	stopPatience  = 10 * time.Second
)

// driver is what Docker calls the daemon: the name of its socket.
const driver = "ipamlog"

// engineSocket is where the daemon asks whose an address is.
func engineSocket(dir string) string { return filepath.Join(dir, "docker.sock") }

// daemon is the demo's own.
type daemon struct {
	cmd    *exec.Cmd
	socket string
	ended  chan struct{}
}

// startDaemon runs a daemon in dir, and returns when it answers.
func startDaemon(ctx context.Context, sh shell, dir string) (*daemon, error) {
	log, err := os.Create(filepath.Join(dir, "daemon.log"))
	if err != nil {
		return nil, errors.Wrap(err, "make the daemon's log")
	}
	defer func() { _ = log.Close() }() // the daemon has its own
	d := &daemon{socket: filepath.Join(dir, driver+".sock"), ended: make(chan struct{})}
	// Not ended with ctx, but in order: see stop.
	d.cmd = sh.command(context.WithoutCancel(ctx), "serve", "--data-dir", dir, "--socket", d.socket, "--host", "h1", "--engine", "unix://"+engineSocket(dir), "--listen", "off")
	d.cmd.Stderr = log
	// In a group of its own the terminal's Ctrl-C does not reach it before us;
	// and it goes when we are killed.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Wrap(err, "listen to the daemon")
	}
	if err := d.cmd.Start(); err != nil {
		return nil, errors.Wrap(err, "start the daemon")
	}
	serving := make(chan struct{})
	go func() {
		defer close(d.ended)
		words := bufio.NewReader(stdout)
		if _, err := words.ReadString('\n'); err == nil {
			close(serving) // it says so once it answers, and nothing before
		}
		_, _ = io.Copy(io.Discard, words)
		_ = d.cmd.Wait()
	}()
	patience := time.NewTimer(startPatience)
	defer patience.Stop()
	select {
	case <-serving:
		return d, nil
	case <-d.ended:
	case <-patience.C:
	case <-ctx.Done():
	}
	d.stop()
	said, _ := os.ReadFile(log.Name())
	return nil, errors.Newf("the daemon did not start: it said %q", said)
}

// stop ends the daemon, and returns when it has gone.
func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(stopPatience):
		_ = d.cmd.Process.Kill()
		<-d.ended
	}
}
