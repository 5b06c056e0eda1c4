// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/errors"
)

// commandLimit is how long a command on a host may take. One that hangs is an
// error with its name in it, well before go test gives up on all tests.
const commandLimit = 5 * time.Minute

// Process is a process of a host. It ends with its host at the latest. Its
// methods may be called from any goroutine, any number of times.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // as of cmd.Wait; read after done
}

// Start starts a command as a process of the host: with its name, network,
// /run and process tree. Its path must be absolute or looked up, as
// [exec.Command] does; without a Dir it starts in the root directory. Do not
// call Wait on the command: the returned process does.
func (h *Host) Start(cmd *exec.Cmd) (*Process, error) {
	in, err := h.running()
	if err != nil {
		return nil, err
	}
	p, err := in.start(cmd)
	return p, errors.Wrapf(err, "start %s on host %s", cmd.Path, h.name)
}

// Exec runs a command as a process of the host to its end and returns its
// standard output without the spaces around it. The error holds what it wrote
// to standard error.
func (h *Host) Exec(name string, args ...string) (string, error) {
	in, err := h.running()
	if err != nil {
		return "", err
	}
	out, err := in.exec(h.lab.ctx, name, args...)
	return out, errors.Wrapf(err, "on host %s", h.name)
}

// MustExec is [Host.Exec] for a command that must succeed.
func (h *Host) MustExec(t T, name string, args ...string) string {
	t.Helper()
	out, err := h.Exec(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (in *initProcess) start(cmd *exec.Cmd) (*Process, error) {
	if err := in.ns.do(cmd.Start); err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// startLogged starts a program whose words go to a log in dir, named after it.
// Those of a host's own directory are printed should the test fail.
func (in *initProcess) startLogged(dir string, cmd *exec.Cmd) (*Process, error) {
	path := filepath.Join(dir, filepath.Base(cmd.Path)+".log")
	log, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, errors.Wrap(err, "open a log")
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is for the test
	p, err := in.start(cmd)
	return p, errors.Wrapf(err, "start %s", cmd.Path)
}

// await waits until a program that was just started is ready.
func await(ctx context.Context, what string, p *Process, limit time.Duration, ready func() bool) error {
	err := poll(ctx, limit, func() bool { return !p.alive() || ready() })
	if err == nil && !p.alive() {
		return errors.Newf("%s ended at once, its log says why: %v", what, p.Wait())
	}
	return errors.Wrapf(err, "wait for %s", what)
}

func (in *initProcess) exec(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	return output(exec.CommandContext(ctx, name, args...), func(cmd *exec.Cmd) error {
		p, err := in.start(cmd)
		if err != nil {
			return err
		}
		return p.Wait()
	})
}

// output is what the command wrote, or an error that says what it complained of.
func output(cmd *exec.Cmd, run func(*exec.Cmd) error) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := run(cmd)
	return strings.TrimSpace(stdout.String()),
		errors.Wrapf(err, "%s: %s", strings.Join(cmd.Args, " "), strings.TrimSpace(stderr.String()))
}

// Signal sends a signal to the process.
func (p *Process) Signal(s os.Signal) error {
	return errors.Wrapf(p.cmd.Process.Signal(s), "signal %s", p.cmd.Path)
}

// Kill ends the process at once, as kill -9, and waits for its end.
func (p *Process) Kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return errors.Wrapf(err, "kill %s", p.cmd.Path)
	}
	<-p.done
	return nil
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// paused says whether no thread of the process runs any more: after SIGSTOP,
// those in the middle of something go on for a moment.
func (p *Process) paused() bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
	for _, file := range threads {
		stat, err := os.ReadFile(file)
		_, state, _ := strings.Cut(string(stat), ") ") // behind the name
		if err != nil || !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return err == nil && len(threads) > 0
}

// alive says whether there is a process and it has not ended.
func (p *Process) alive() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Wait waits for the end of the process and returns what [exec.Cmd.Wait] does.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}
