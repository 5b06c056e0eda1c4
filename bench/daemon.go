// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/demo/engine"
	"github.com/ipamlog/ipamlog/embedded"
)

// startPatience is how long a daemon may take to answer.
const startPatience = 30 * time.Second

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
// empty, on one embedded in it.
func start(ctx context.Context, program, dir, host, etcd string) (*daemon, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, errors.Wrap(err, "make a directory for the daemon")
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, errors.Wrap(err, "make the daemon's log")
	}
	defer func() { _ = log.Close() }() // the daemon has its own
	d := &daemon{dir: dir, socket: filepath.Join(dir, "plugin.sock")}
	d.cmd = exec.Command(program, "serve", "--data-dir", dir, "--socket", d.socket, "--host", host,
		"--engine", "off", "--listen", "off", "--cluster-store", etcd)
	d.cmd.Stdout, d.cmd.Stderr = io.Discard, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := d.cmd.Start(); err != nil {
		return nil, errors.Wrapf(err, "start %s", program)
	}
	if err := d.ready(ctx); err != nil {
		said, _ := os.ReadFile(log.Name())
		d.stop()
		return nil, errors.Wrapf(err, "the daemon said:\n%s", said)
	}
	return d, nil
}

// ready waits until a pool is answered for.
func (d *daemon) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		err := d.probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Wrap(err, "wait for the daemon")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (d *daemon) probe(ctx context.Context) error {
	conn, err := engine.Dial(ctx, d.socket)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	pool, err := conn.CreatePool("192.0.2.0/24", map[string]string{"pool": "probe"})
	if err != nil {
		return err
	}
	return conn.ReleasePool(pool)
}

// etcd is where the daemon's embedded etcd is reached.
func (d *daemon) etcd() string { return embedded.Endpoint(d.dir) }

// cpu is what the daemon has had of the CPUs so far, to a hundredth of a second
// (proc(5)).
func (d *daemon) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid))
	if err != nil {
		return 0, errors.Wrap(err, "read the daemon's CPU time")
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // the name may hold spaces
	var ticks int64
	for _, field := range strings.Fields(rest)[11:13] { // utime and stime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, errors.Wrap(err, "read the daemon's CPU time")
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait()
}
