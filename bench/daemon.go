// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/demo/engine"
	"github.com/ipamlog/ipamlog/embedded"
)

const (
	// startPatience is how long a daemon may take to answer; with a log of ten million
	// events that is minutes.
	startPatience = 10 * time.Minute
	// askAgain is after how long one is asked again: a start is measured so exactly.
	askAgain = 5 * time.Millisecond
)

// build makes the program that is measured.
func build(ctx context.Context, dir string) (string, error) {
	program := filepath.Join(dir, "ipamlog")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/ipamlog/ipamlog")
	cmd.Stderr = os.Stderr
	return program, errors.Wrap(cmd.Run(), "build ipamlog: run this in its source, or name a program with --program")
}

// daemon is an `ipamlog serve` of ours.
type daemon struct {
	cmd    *exec.Cmd
	dir    string
	socket string
}

// start runs a daemon with its own directory, on the given etcd or, when that is
// empty, on one embedded in it, and waits until it answers.
func start(ctx context.Context, program, dir, host, etcd string) (*daemon, error) {
	d, _, err := startUntil(ctx, program, dir, host, etcd, probe)
	return d, err
}

// startUntil runs a daemon, and tells how long it took until a question of Docker's was
// answered.
func startUntil(ctx context.Context, program, dir, host, etcd string, question func(*engine.Conn) error) (*daemon, time.Duration, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, 0, errors.Wrap(err, "make a directory for the daemon")
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, 0, errors.Wrap(err, "make the daemon's log")
	}
	defer func() { _ = log.Close() }() // the daemon has its own
	d := &daemon{dir: dir, socket: filepath.Join(dir, "plugin.sock")}
	d.cmd = exec.Command(program, "serve", "--data-dir", dir, "--socket", d.socket, "--host", host,
		"--engine", "off", "--listen", "off", "--cluster-store", etcd)
	d.cmd.Stdout, d.cmd.Stderr = io.Discard, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	begun := time.Now()
	if err := d.cmd.Start(); err != nil {
		return nil, 0, errors.Wrapf(err, "start %s", program)
	}
	if err := d.answers(ctx, question); err != nil {
		said, _ := os.ReadFile(log.Name())
		d.stop()
		return nil, 0, errors.Wrapf(err, "the daemon said:\n%s", said)
	}
	return d, time.Since(begun), nil
}

// answers waits until a question is answered.
func (d *daemon) answers(ctx context.Context, question func(*engine.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		err := d.ask(ctx, question)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Wrap(err, "wait for the daemon")
		case <-time.After(askAgain):
		}
	}
}

func (d *daemon) ask(ctx context.Context, question func(*engine.Conn) error) error {
	conn, err := engine.Dial(ctx, d.socket)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return question(conn)
}

// probe asks for a pool, and gives it back.
func probe(conn *engine.Conn) error {
	pool, err := conn.CreatePool("192.0.2.0/24", map[string]string{"pool": "probe"})
	if err != nil {
		return err
	}
	return conn.ReleasePool(pool)
}

// etcd is where the daemon's embedded etcd is reached.
func (d *daemon) etcd() string { return embedded.Endpoint(d.dir) }

func (d *daemon) pid() int { return d.cmd.Process.Pid }

// cpu is what the daemon has had of the CPUs.
func (d *daemon) cpu() (time.Duration, error) { return cpuOf(d.pid()) }

func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait()
}
