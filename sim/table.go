// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/sim/model"
)

const (
	// quota is what etcd's operators advise at most.
	quota = 8 << 30
	// steady is how many times each index is read while latencies are looked at.
	steady = 3
)

// What the tables go through: containers started a second on each host (a busy machine of a
// test farm, a busy server, one that is deployed to now and then), hosts, and hosts in a
// pool.
var (
	churns = []float64{1, 0.1, 0.01}
	sizes  = []int{10, 100, 300, 1000, 3000, 10_000}
	shares = []int{1, 16, 100}
)

// write writes what was measured, and what follows from it.
func write(w io.Writer, m measured, s model.Site, commits int, seed uint64) error {
	for _, part := range []func(io.Writer) error{
		func(w io.Writer) error { return writeCosts(w, m) },
		func(w io.Writer) error { return writeTruth(w, m, commits, seed) },
		func(w io.Writer) error { return writeSites(w, m.Costs, s, commits, seed) },
		func(w io.Writer) error { return writeBorders(w, m.Costs, s) },
	} {
		if err := part(w); err != nil {
			return errors.Wrap(err, "print a table")
		}
	}
	return nil
}

func writeCosts(w io.Writer, m measured) error {
	c := m.Costs
	fmt.Fprintf(w, "Measured on %s, etcd %s, %d CPUs:\n\n", m.When, m.Etcd, m.CPUs)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range []struct {
		what string
		cost time.Duration
	}{
		{"CPU of etcd\ta commit of one event", c.Commit},
		{"\teach further event in it", c.Event},
		{"\teach flush of its log", c.Flush},
		{"\ttelling one daemon of a commit", c.Delivery},
		{"\textending a lease", c.KeepAlive},
		{"\ta daemon that starts and ends", c.Join},
		{"\tthe same, each pool there is", c.JoinPool},
		{"\ta daemon's index: each stream it looks at", c.IndexStream},
		{"\tthe same, each stream with news", c.IndexBehind},
		{"\tthe same, each commit", c.IndexCommit},
		{"CPU of daemons\tthe one that commits", c.Decided},
		{"\teach that is told", c.Followed},
		{"by the clock\ta flush", c.Disk},
		{"\twhat else a lone commit waits for", c.Away},
	} {
		fmt.Fprintf(t, "%s\t%s\n", row.what, short(row.cost))
	}
	fmt.Fprintf(t, "bytes in etcd\tan event in the log\t%.0f\n\ta held address\t%.0f\n", c.BytesEvent, c.BytesHeld)
	return t.Flush()
}

// writeTruth compares the model with what hosts did.
func writeTruth(w io.Writer, m measured, commits int, seed uint64) error {
	site, costs := model.Site{Hosts: hosts, Share: hosts, Cores: m.CPUs, Loop: true}, m.Costs.OnOneMachine()
	o := model.Run(site, costs, commits, seed)
	fmt.Fprintf(w, "\n%d hosts on one pool, each with one request after the other, on one machine with their etcd:\n\n", hosts)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tcommits/s\tp50\tp99\tCPU a commit\tof the cores")
	cpu := time.Duration(o.Busy * float64(m.CPUs) / o.Rate * float64(time.Second))
	line := func(who string, rate float64, p50, p99, cpu time.Duration, busy float64) {
		fmt.Fprintf(t, "%s\t%.0f\t%s\t%s\t%s\t%.0f %%\n", who, rate, short(p50), short(p99), short(cpu), 100*busy)
	}
	line("in truth", m.Real.Rate, m.Real.P50, m.Real.P99, m.Real.CPU, m.Real.Busy)
	line("simulated", o.Rate, o.P50, o.P99, cpu, o.Busy)
	off := func(got, want float64) string { return fmt.Sprintf("%+.0f %%", 100*(got/want-1)) }
	fmt.Fprintf(t, "error of that\t%s\t%s\t%s\t%s\t\n", off(o.Rate, m.Real.Rate), off(o.P50.Seconds(), m.Real.P50.Seconds()),
		off(o.P99.Seconds(), m.Real.P99.Seconds()), off(cpu.Seconds(), m.Real.CPU.Seconds()))
	return t.Flush()
}

// writeSites simulates sites of every size.
func writeSites(w io.Writer, c model.Costs, s model.Site, commits int, seed uint64) error {
	s.Share = 16
	fmt.Fprintf(w, "\nAn etcd with %d cores, %d hosts in each pool, %s brought up to date %s:\n\n", s.Cores, s.Share, indexes(s.Indexed), every(s.Index))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "containers/s on a host\thosts\tevents/s\tof etcd's cores\tp50\tp99\tof a core to follow\ta day in etcd\tto 8 GiB")
	for _, s.Churn = range churns {
		for _, s.Hosts = range sizes {
			used := s.Utilisation(c)
			p50, p99 := "–", "–"
			if used < 1 {
				// Long enough that the index is read many times.
				if o := model.Run(s, c, max(commits, int(s.Events()*steady*s.Index.Seconds())), seed); !o.Saturated {
					p50, p99 = short(o.P50), short(o.P99)
				}
			}
			fmt.Fprintf(t, "%g\t%d\t%s\t%s\t%s\t%s\t%.2f %%\t%s\t%s\n", s.Churn, s.Hosts, figure(s.Events()), percent(used), p50, p99,
				100*s.Watching(c), bytes(s.Growth(c)), lasts(quota/s.Growth(c)))
		}
	}
	return t.Flush()
}

// writeBorders says how many hosts there may be.
func writeBorders(w io.Writer, c model.Costs, s model.Site) error {
	fmt.Fprintf(w, "\nHosts with which an etcd of %d cores is half busy, and with which it is saturated:\n\n", s.Cores)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "hosts in a pool\tcontainers/s on a host\thalf busy\tsaturated\tevents/s then\tsaturated if all keep an index\tevents/s then\n")
	for _, s.Share = range shares {
		for _, s.Churn = range churns {
			all := s
			all.Indexed = 0
			s.Hosts, all.Hosts = s.Border(c, 1), all.Border(c, 1)
			fmt.Fprintf(t, "%d\t%g\t%d\t%d\t%s\t%d\t%s\n", s.Share, s.Churn, s.Border(c, 0.5),
				s.Hosts, figure(s.Events()), all.Hosts, figure(all.Events()))
		}
	}
	return t.Flush()
}

func indexes(most int) string {
	if most == 0 {
		return "each daemon's index"
	}
	return fmt.Sprintf("the index on %d of them at most", most)
}

func every(d time.Duration) string {
	if d == 0 {
		return "never"
	}
	return "every " + d.String()
}

// short is a duration in three figures or so.
func short(d time.Duration) string {
	switch {
	case d < 100*time.Microsecond:
		return fmt.Sprintf("%.1fµs", float64(d)/1e3)
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	default:
		return d.Round(10 * time.Microsecond).String()
	}
}

func figure(v float64) string {
	if v < 10 {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func percent(part float64) string {
	if part >= 1 {
		return fmt.Sprintf("%.0f times", math.Ceil(part))
	}
	return fmt.Sprintf("%.1f %%", 100*part)
}

func bytes(n float64) string {
	if n < 1e9 {
		return fmt.Sprintf("%.0f MB", n/1e6)
	}
	return fmt.Sprintf("%.1f GB", n/1e9)
}

func lasts(days float64) string {
	if days < 2 {
		return fmt.Sprintf("%.0f h", days*24)
	}
	return fmt.Sprintf("%.0f days", days)
}
