// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/errors"
)

// Service is a program that serves on a host, and can be ended and started
// again in every way. Its words go to a log that is printed should the test
// fail. Its methods may be called from any goroutine.
type Service struct {
	// Host is where it runs.
	Host *Host

	command func() (*exec.Cmd, error)
	ready   func() bool // whether what runs now serves

	mu      sync.Mutex // held while it changes between up and down
	process *Process
}

// Start starts the program and returns once it serves. After [Service.Kill],
// [Service.Stop] and [Host.Reboot] it goes on from what is on the host's disk.
func (s *Service) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process.alive() {
		return errors.Newf("the %v runs already: stop or kill it first", s)
	}
	in, err := s.Host.running()
	if err != nil {
		return err
	}
	cmd, err := s.command()
	if err != nil {
		return err
	}
	if s.process, err = in.startLogged(s.Host.dir, cmd); err != nil {
		return err
	}
	return await(s.Host.lab.ctx, s.String(), s.process, startLimit, s.ready)
}

// Stop asks the program to end, as systemd does, and waits until it has. It is
// an error if the program says that it did not end well.
func (s *Service) Stop() error {
	return s.whileItRuns(func(p *Process) error {
		if err := p.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		select {
		case <-p.Done():
		case <-time.After(stopLimit):
			return errors.Newf("the %v did not stop within %v", s, stopLimit)
		}
		return errors.Wrapf(p.Wait(), "stop the %v", s)
	})
}

// Kill ends the program at once, as kill -9 does.
func (s *Service) Kill() error { return s.whileItRuns((*Process).Kill) }

// Pause stops the program where it is, SIGSTOP, until [Service.Continue]: it
// takes connections, as the kernel does that for it, and answers nothing.
func (s *Service) Pause() error {
	return s.whileItRuns(func(p *Process) error {
		if err := p.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		return errors.Wrapf(poll(s.Host.lab.ctx, stopLimit, p.paused), "wait for the %v to pause", s)
	})
}

// Continue ends what [Service.Pause] began.
func (s *Service) Continue() error {
	return s.whileItRuns(func(p *Process) error { return p.Signal(syscall.SIGCONT) })
}

// Runs says whether there is a process.
func (s *Service) Runs() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.alive()
}

// String names the service in sentences.
func (s *Service) String() string { return "service of host " + s.Host.name }

func (s *Service) whileItRuns(do func(*Process) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.process.alive() {
		return errors.Newf("the %v does not run: start it first", s)
	}
	return do(s.process)
}
