// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/cockroachdb/errors"
)

// row is one line of the table: a side beside the one it is compared with. A
// base is a row without one.
type row struct {
	who  string
	side *side
	base *side
	aims []aim
}

// aim is what a ratio is meant to be.
type aim struct {
	words  string
	figure func(sample) float64
	bound  float64
	atMost bool // else at least
}

func rateAtLeast(bound float64) aim {
	return aim{words: "rate", figure: rate, bound: bound}
}

func atMost(words string, figure func(sample) float64, bound float64) aim {
	return aim{words: words, figure: figure, bound: bound, atMost: true}
}

// verdict says the aim, and whether it was reached; of a ratio whose rounds
// disagree about that it says so.
func (a aim) verdict(r row) string {
	sign := "≥"
	reached := func(v float64) bool { return v >= a.bound }
	if a.atMost {
		sign = "≤"
		reached = func(v float64) bool { return v <= a.bound }
	}
	got := r.side.to(r.base, a.figure)
	said := "missed"
	if reached(got.Median) {
		said = "met"
	}
	if reached(got.Least) != reached(got.Most) {
		said += ", not in every round"
	}
	return fmt.Sprintf("%s %s %g: %s", a.words, sign, a.bound, said)
}

// write writes the table.
func write(w io.Writer, rows []row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "clients\twhat\trequests/s\tper commit\tCPU each\tp50\tp99\trate ×\tp50 ×\tp99 ×\taim")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%.0f\t%.1f\t%s\t%s\t%s", r.who, r.side.what,
			r.side.over(rate).Median, r.side.over(perCommit).Median, r.side.cpuWords(), duration(r.side.over(p50)), duration(r.side.over(p99)))
		if r.base == nil {
			fmt.Fprint(t, "\t\t\t\t\n")
			continue
		}
		for _, figure := range []func(sample) float64{rate, p50, p99} {
			s := r.side.to(r.base, figure)
			fmt.Fprintf(t, "\t%.2f (%.2f to %.2f)", s.Median, s.Least, s.Most)
		}
		fmt.Fprint(t, "\t")
		for i, a := range r.aims {
			if i > 0 {
				fmt.Fprint(t, "; ")
			}
			fmt.Fprint(t, a.verdict(r))
		}
		fmt.Fprintln(t)
	}
	return errors.Wrap(t.Flush(), "print the table")
}

func (s *side) cpuWords() string {
	words := duration(s.over(cpu))
	if hosts := s.over(hostsCPU); hosts.Median > 0 {
		words += ", hosts " + duration(hosts)
	}
	return words
}

func duration(s spread) string {
	d := time.Duration(s.Median * float64(time.Second))
	if d < 10*time.Millisecond {
		return d.Round(time.Microsecond).String()
	}
	return d.Round(100 * time.Microsecond).String()
}
