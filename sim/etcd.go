// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/embedded"
)

// reading is what an etcd has done so far, and what it is.
type reading struct {
	CPU      time.Duration
	Flushes  uint64        // of its log
	Flushing time.Duration // all of them, by the clock
	Revision int64
	InUse    int64 // bytes of its database
}

// serve is the etcd that is measured, as a process of its own, so that its CPU time is
// nobody else's. It tells a reading for every line on in, until that ends.
func serve(ctx context.Context, dir string, in io.Reader, out io.Writer) error {
	server, err := embedded.Start(ctx, embedded.Options{Dir: dir, Log: zerolog.Nop()})
	if err != nil {
		return err
	}
	defer server.Close()
	lines, told := bufio.NewScanner(in), json.NewEncoder(out)
	for {
		r, err := readHere(ctx, server)
		if err != nil {
			return err
		}
		if err := told.Encode(r); err != nil {
			return errors.Wrap(err, "tell a reading")
		}
		if !lines.Scan() {
			return errors.Wrap(lines.Err(), "wait to be asked")
		}
	}
}

// readHere reads what the etcd in this process did.
func readHere(ctx context.Context, server *embedded.Server) (r reading, err error) {
	if r.CPU, err = ownCPU(); err != nil {
		return r, err
	}
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		return r, errors.Wrap(err, "read etcd's metrics")
	}
	for _, f := range families {
		if f.GetName() == "etcd_disk_wal_fsync_duration_seconds" {
			h := f.GetMetric()[0].GetHistogram()
			r.Flushes, r.Flushing = h.GetSampleCount(), time.Duration(h.GetSampleSum()*float64(time.Second))
		}
	}
	status, err := server.Client().Status(ctx, server.Endpoint())
	if err != nil {
		return r, errors.Wrap(err, "ask etcd for its size")
	}
	r.InUse, r.Revision = status.DbSizeInUse, status.Header.Revision
	return r, nil
}

// ownCPU is what this process has had of the CPUs.
func ownCPU() (time.Duration, error) {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0, errors.Wrap(err, "read the CPU time of this process")
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()), nil
}

// etcd is one that runs [serve], seen from here.
type etcd struct {
	endpoint string
	cmd      *exec.Cmd
	ask      io.WriteCloser
	told     *json.Decoder
}

// startEtcd starts it; the flag is what makes this program serve.
func startEtcd(dir, flag string) (*etcd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, errors.Wrap(err, "find this program")
	}
	e := &etcd{endpoint: embedded.Endpoint(dir), cmd: exec.Command(self, flag, dir)}
	e.cmd.Stderr = os.Stderr
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if e.ask, err = e.cmd.StdinPipe(); err != nil {
		return nil, errors.Wrap(err, "make a pipe")
	}
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Wrap(err, "make a pipe")
	}
	e.told = json.NewDecoder(out)
	if err := e.cmd.Start(); err != nil {
		return nil, errors.Wrap(err, "start an etcd")
	}
	var first reading // it serves
	if err := e.told.Decode(&first); err != nil {
		return nil, errors.CombineErrors(errors.Wrap(err, "wait for the etcd"), e.stop())
	}
	return e, nil
}

func (e *etcd) read() (reading, error) {
	var r reading
	if _, err := fmt.Fprintln(e.ask); err != nil {
		return r, errors.Wrap(err, "ask the etcd what it did")
	}
	return r, errors.Wrap(e.told.Decode(&r), "ask the etcd what it did")
}

func (e *etcd) stop() error {
	_ = e.ask.Close() // which ends it
	return errors.Wrap(e.cmd.Wait(), "stop the etcd")
}

// tidy has it forget what is superseded, so that what is in use is what stays.
func (e *etcd) tidy(ctx context.Context, c *clientv3.Client) error {
	r, err := e.read()
	if err != nil {
		return err
	}
	if _, err := c.Compact(ctx, r.Revision, clientv3.WithCompactPhysical()); err != nil {
		return errors.Wrap(err, "compact")
	}
	for range 10 { // pages come free with later writes, which etcd gathers for a tenth of a second
		if _, err := c.Put(ctx, "/sim/nudge", ""); err != nil {
			return errors.Wrap(err, "nudge etcd")
		}
		select {
		case <-time.After(120 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
