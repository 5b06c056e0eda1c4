// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/cockroachdb/errors"
)

// Other allocators were measured once, on etcd 3.6.16 and another machine, in turns with
// bare puts: acquire and release of one address in a /16, each counted as a request. What
// carries over to this machine is their ratio to the puts; how far the puts' own rate
// drifted there makes the range of every factor.
var (
	otherPuts = map[string][2]float64{callers1: {2_900, 3_800}, callers16: {5_000, 10_600}}
	others    = []other{
		{"go-ipam, a JSON document a prefix", map[string]float64{callers1: 1_120, callers16: 930, usedWords(10_000): 46, usedWords(60_000): 7}},
		{"libnetwork's kvipamdriver, a bitmap a pool", map[string]float64{callers1: 920, callers16: 470, usedWords(10_000): 432, usedWords(60_000): 46}},
		{"Calico, blocks of 64 a host", map[string]float64{callers1: 320, hosts16: 830, usedWords(10_000): 350, usedWords(60_000): 334}},
	}
	// othersHeld are how many addresses were in use, with one caller.
	othersHeld = []int{10_000, 60_000}
	situations = []string{callers1, callers16, hosts16, usedWords(10_000), usedWords(60_000)}
)

const (
	callers1  = "1 caller"
	callers16 = "16 callers"
	hosts16   = "16 hosts"
)

// other is what another allocator reached, in requests a second.
type other struct {
	name  string
	rates map[string]float64
}

func usedWords(held int) string { return fmt.Sprintf("/16 with %d used", held) }

// beaten is by which factor ours is ahead of another allocator, both by their ratio to
// bare puts.
type beaten struct {
	Name   string            `json:"name"`
	By     string            `json:"by"`     // what of ours
	Factor map[string]spread `json:"factor"` // by the situation
}

// othersBeside computes the factors that follow from the table's rows.
func othersBeside(rows []row) []beaten {
	var all []beaten
	for _, o := range others {
		for _, by := range []string{"the actor", "ipamlog"} {
			factors := map[string]spread{}
			for situation, theirs := range o.rates {
				r, ok := rowOf(rows, situation, by)
				if !ok {
					continue
				}
				puts, ours := putsOf(situation), r.side.to(r.base, rate)
				factors[situation] = spread{
					Median: ours.Median * (puts[0] + puts[1]) / 2 / theirs,
					Least:  ours.Least * puts[0] / theirs, Most: ours.Most * puts[1] / theirs,
				}
			}
			if len(factors) > 0 {
				all = append(all, beaten{Name: o.name, By: by, Factor: factors})
			}
		}
	}
	return all
}

// putsOf are the least and the most puts a second there, by as many clients.
func putsOf(situation string) [2]float64 {
	if situation == callers16 || situation == hosts16 {
		return otherPuts[callers16]
	}
	return otherPuts[callers1]
}

// rowOf finds the row of a situation.
func rowOf(rows []row, situation, by string) (row, bool) {
	who, what := "1", by+", empty /16"
	switch situation {
	case callers1:
	case callers16:
		who = "16"
	case hosts16:
		who, what = hosts16, by+", a host each, one pool"
	default:
		what = by + ", " + situation
	}
	for _, r := range rows {
		if r.who == who && r.side.what == what && r.base != nil {
			return r, true
		}
	}
	return row{}, false
}

// writeOthers writes the factors as a table.
func writeOthers(w io.Writer, all []beaten) error {
	if len(all) == 0 {
		return nil
	}
	fmt.Fprint(w, "\nBeside other allocators: how many times as many requests, where bare puts are as fast for both. Theirs were\nmeasured elsewhere, as libraries without a socket, so \"the actor\" is the like; ranges span both runs' drift.\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "allocator\tby\t%s\n", strings.Join(situations, "\t"))
	for _, one := range all {
		fmt.Fprintf(t, "%s\t%s", one.Name, one.By)
		for _, situation := range situations {
			f, ok := one.Factor[situation]
			if !ok {
				fmt.Fprint(t, "\t")
				continue
			}
			fmt.Fprintf(t, "\t× %.3g (%.3g to %.3g)", f.Median, f.Least, f.Most)
		}
		fmt.Fprintln(t)
	}
	return errors.Wrap(t.Flush(), "print the table")
}
