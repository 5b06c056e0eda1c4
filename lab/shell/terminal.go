// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/cockroachdb/errors"
	"github.com/mattn/go-isatty"
	"golang.org/x/sys/unix"

	"github.com/ipamlog/ipamlog/lab"
)

// shellFile is what an interactive bash reads instead of a person's own.
const shellFile = `PS1='root@$LAB_HOST:\w# '
`

// shell greets the person and runs a shell on the first host until it, or ctx,
// ends. Commands that come from elsewhere than a terminal decide by their last
// one's status what that of the lab is; a person's do not.
func (p *place) shell(ctx context.Context, v *lab.Visitor) int {
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: p.socket()})
	if err != nil {
		v.Fatalf("listen for the lab's commands: %v", err)
	}
	defer ln.Close()
	go p.serve(ln)

	person := isatty.IsTerminal(os.Stdin.Fd()) && isatty.IsTerminal(os.Stdout.Fd())
	if person {
		_, _ = os.Stdout.WriteString(p.greet())
	} else {
		_, _ = os.Stderr.WriteString(p.greet())
	}
	r := p.on(ctx.Done(), []*os.File{os.Stdin, os.Stdout, os.Stderr}, []string{p.first().Name()})
	if r.Error != "" {
		v.Fatal(r.Error)
	}
	if person || ctx.Err() != nil {
		return 0
	}
	return r.Status
}

// on is the command `on`: it runs a command on a host, with these standard
// files, to its end, or kills it once whoever asked is gone. Without a command
// it runs a shell.
func (p *place) on(gone <-chan struct{}, files []*os.File, args []string) result {
	if len(args) == 0 {
		return result{1, "name a host, and a command to run there: on HOST COMMAND [ARGUMENT]..."}
	}
	h, err := p.find(args[0])
	if err != nil {
		return result{1, err.Error()}
	}
	cmd, err := p.command(h.Host, files[0], args[1:])
	if err != nil {
		return result{127, err.Error()}
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = files[0], files[1], files[2]
	process, giveBack, err := startInFront(h.Host, cmd, files)
	if err != nil {
		return result{126, err.Error()}
	}
	defer giveBack()
	select {
	case <-process.Done():
	case <-gone:
		if err := process.Kill(); err != nil {
			return result{1, err.Error()}
		}
	}
	return result{Status: status(process.Wait())}
}

func (p *place) command(h *lab.Host, in *os.File, args []string) (*exec.Cmd, error) {
	var cmd *exec.Cmd
	switch {
	case len(args) > 0:
		name := args[0]
		if own, err := exec.LookPath(filepath.Join(p.commands(), name)); err == nil {
			name = own
		}
		cmd = exec.Command(name, args[1:]...)
		if cmd.Err != nil {
			return nil, errors.Newf("there is no command %s", args[0])
		}
	case isatty.IsTerminal(in.Fd()):
		file := filepath.Join(p.hidden(), "bashrc")
		if err := os.WriteFile(file, []byte(shellFile), 0o600); err != nil {
			return nil, errors.Wrap(err, "prepare a shell")
		}
		cmd = exec.Command("bash", "--rcfile", file, "-i")
	default:
		cmd = exec.Command("bash")
	}
	cmd.Env = p.environment(h)
	cmd.Dir = h.Dir()
	return cmd, nil
}

// startInFront starts a command on a host as the one that its terminal listens
// to, if it has one: as a job of its own, which signals from the keyboard reach.
// To give back the terminal is up to the caller.
func startInFront(h *lab.Host, cmd *exec.Cmd, files []*os.File) (*lab.Process, func(), error) {
	in := int(files[0].Fd())
	before, err := unix.IoctlGetInt(in, unix.TIOCGPGRP)
	if err != nil { // no terminal, or not that of this process
		p, err := h.Start(cmd)
		return p, func() {}, err
	}
	if !isatty.IsTerminal(files[1].Fd()) {
		cmd.Stdin = nil // the terminal is that of whom the output goes to
		p, err := h.Start(cmd)
		return p, func() {}, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Foreground: true, Ctty: in}
	p, err := h.Start(cmd)
	return p, func() { front(in, before) }, err
}

// front puts a process group in front of a terminal, which the kernel lets a
// process in the background do if it does not hear of it.
func front(terminal, group int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var blocked, before unix.Sigset_t
	blocked.Val[0] = 1 << (uint(syscall.SIGTTOU) - 1)
	if unix.PthreadSigmask(unix.SIG_BLOCK, &blocked, &before) != nil {
		return
	}
	_ = unix.IoctlSetPointerInt(terminal, unix.TIOCSPGRP, group) // it may be gone
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
}

// status is the exit status that tells how a command ended, as shells have it.
func status(err error) int {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		if err != nil {
			return 1
		}
		return 0
	}
	if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return 128 + int(s.Signal())
	}
	return exit.ExitCode()
}
