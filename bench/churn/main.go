// SPDX-License-Identifier: Apache-2.0

// Command churn watches what becomes of etcd while a log grows by millions of events,
// with an archive and without one: how large its database is, how much memory it has,
// and how long a daemon takes to start on it in the end.
//
// The story is bulk's: it is written as fast as etcd takes it, and by its own clocks a
// million events are some two and a half hours. All but the last hour of it is archived now and
// again, by the same command that an operator would use.
package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/bench/bulk"
	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/demo/engine"
	"github.com/ipamlog/ipamlog/embedded"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/store"
)

const (
	held = 10_000
	// patience is how long etcd or a daemon may take to be there.
	patience = 2 * time.Minute
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "churn:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	total := pflag.Int("events", 3_000_000, "how many events are written, each time")
	every := pflag.Int("every", 500_000, "after how many events it is looked, and archived")
	server := pflag.String("store", "", "be the etcd in this directory")
	_ = pflag.CommandLine.MarkHidden("store") // it is for churn itself
	pflag.Parse()
	if *every < 1 || *total < *every {
		return errors.Newf("--every %d is not between 1 and --events %d", *every, *total)
	}
	if *server != "" {
		return serve(ctx, *server)
	}
	dir, err := os.MkdirTemp("", "ipamlog-churn-")
	if err != nil {
		return errors.Wrap(err, "make a directory")
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program := filepath.Join(dir, "ipamlog")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/ipamlog/ipamlog")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return errors.Wrap(err, "build ipamlog: run this in its source")
	}
	fmt.Printf("%d events, of which the last hour stays in etcd where there is an archive (some 360,000), and %d addresses held.\n\n", *total, held)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "archive\tevents written\tcommits in etcd\tdatabase\tin use\tetcd's memory\tarchive's files")
	var started []string
	for _, archived := range []bool{false, true} {
		c := &course{program: program, dir: filepath.Join(dir, fmt.Sprint("archive-", archived)), archived: archived, table: table}
		if err := c.run(ctx, *total, *every); err != nil {
			return err
		}
		took, err := c.start(ctx)
		if err != nil {
			return err
		}
		started = append(started, fmt.Sprintf("%s archive: %s", with(archived), took.Round(time.Millisecond)))
	}
	if err := table.Flush(); err != nil {
		return errors.Wrap(err, "print the table")
	}
	fmt.Printf("\nA daemon's start, its embedded etcd's included, until Docker is answered: %s.\n", strings.Join(started, ", "))
	return nil
}

func with(archived bool) string {
	if archived {
		return "with"
	}
	return "without"
}

// serve is an etcd in a process of its own, whose memory is nobody else's.
func serve(ctx context.Context, dir string) error {
	// How soon writes are on the disk makes no difference to what is looked at.
	server, err := embedded.Start(ctx, embedded.Options{Dir: dir, Log: zerolog.Nop(), NoFsync: true})
	if err != nil {
		return errors.Wrap(err, "start an etcd")
	}
	defer server.Close()
	return errors.Wrap(server.Run(ctx), "run an etcd")
}

// course is one growing log.
type course struct {
	program  string
	dir      string
	archived bool
	table    *tabwriter.Writer

	etcd   *exec.Cmd
	client *clientv3.Client
}

func (c *course) run(ctx context.Context, total, every int) error {
	self, err := os.Executable()
	if err != nil {
		return errors.Wrap(err, "find this program")
	}
	c.etcd = exec.Command(self, "--store", c.dir)
	c.etcd.Stderr = os.Stderr
	c.etcd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := c.etcd.Start(); err != nil {
		return errors.Wrap(err, "start an etcd")
	}
	defer c.end()
	if err := c.reach(ctx); err != nil {
		return err
	}
	defer func() { _ = c.client.Close() }()

	told, next := 0, every
	var failed error
	story := func(yield func(events.Commit) bool) {
		for commit := range (bulk.Story{Events: total, Held: held}).Commits() {
			if !yield(commit) {
				return
			}
			if told += len(commit.Events); told >= next {
				next += every
				if failed = c.look(ctx, told); failed != nil {
					return
				}
			}
		}
	}
	if err := bulk.Write(ctx, c.client, etcdlog.DefaultPrefix, story, nil); err != nil {
		return errors.Wrap(err, "write the story")
	}
	return failed
}

// reach waits for the etcd.
func (c *course) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		client, err := store.Dial(config.Global{DataDir: c.dir, Prefix: etcdlog.DefaultPrefix})
		if err == nil {
			if _, err = client.Get(ctx, "there"); err == nil {
				c.client = client
				return nil
			}
			_ = client.Close()
		}
		select {
		case <-ctx.Done():
			return errors.Wrap(err, "wait for the etcd")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *course) end() {
	_ = c.etcd.Process.Signal(syscall.SIGTERM)
	_ = c.etcd.Wait()
}

// look archives, if there is an archive, and prints a line.
func (c *course) look(ctx context.Context, told int) error {
	place := c.dir + "-segments"
	if c.archived {
		cmd := exec.CommandContext(ctx, c.program, "archive", "--data-dir", c.dir, "--before", "-1h", "--to", place)
		if out, err := cmd.CombinedOutput(); err != nil {
			return errors.Wrapf(err, "archive: %s", out)
		}
	}
	commits, err := c.client.Get(ctx, etcdlog.DefaultPrefix+"log/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return errors.Wrap(err, "count the commits")
	}
	// What is deleted or written over goes with compaction, which an embedded etcd does
	// by itself every few minutes.
	if _, err := c.client.Compact(ctx, commits.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		return errors.Wrap(err, "compact")
	}
	status, err := c.client.Status(ctx, c.client.Endpoints()[0])
	if err != nil {
		return errors.Wrap(err, "ask how large the database is")
	}
	memory, err := residentOf(c.etcd.Process.Pid)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.table, "%s\t%d\t%d\t%s\t%s\t%s\t%s\n", with(c.archived), told, commits.Count,
		mebibytes(status.DbSize), mebibytes(status.DbSizeInUse), mebibytes(memory), mebibytes(sizeOf(place)))
	fmt.Fprintf(os.Stderr, "churn: %s archive, %d events …\n", with(c.archived), told)
	return nil
}

// start is how long a daemon takes from its start to its first answer.
func (c *course) start(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	socket := c.dir + ".sock"
	cmd := exec.CommandContext(ctx, c.program, "serve", "--data-dir", c.dir, "--socket", socket, "--host", "h1", "--engine", "off", "--listen", "off")
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, errors.Wrap(err, "start a daemon")
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	for {
		err := c.answered(ctx, socket)
		if err == nil {
			return time.Since(begun), nil
		}
		select {
		case <-ctx.Done():
			return 0, errors.Wrap(err, "wait for the daemon")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// answered asks as Docker does.
func (c *course) answered(ctx context.Context, socket string) error {
	conn, err := engine.Dial(ctx, socket)
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

// residentOf is the memory that a process has (proc(5)).
func residentOf(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, errors.Wrap(err, "look at etcd's memory")
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	return pages * int64(os.Getpagesize()), errors.Wrap(err, "look at etcd's memory")
}

func sizeOf(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error { // a directory that is not there has none
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}

func mebibytes(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }
