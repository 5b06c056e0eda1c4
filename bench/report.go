// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/cockroachdb/errors"
)

// report is all that a run found, for who compares runs. Times are in seconds.
type report struct {
	At       time.Time `json:"at"`
	CPUs     int       `json:"cpus"`
	Go       string    `json:"go"`
	Rounds   int       `json:"rounds"`
	Duration string    `json:"duration"`
	Table    []jsonRow `json:"table,omitempty"`
	Others   []beaten  `json:"others,omitempty"`
	Found    []section `json:"found,omitempty"`

	overLog *curve // what a request costs over the log's length, where that was measured
}

// jsonRow is a row of the table. Ratios are those to its base.
type jsonRow struct {
	Clients string            `json:"clients"`
	What    string            `json:"what"`
	Figures map[string]spread `json:"figures"`
	Ratios  map[string]spread `json:"ratios,omitempty"`
	Aims    []string          `json:"aims,omitempty"`
}

// section is what one kind of measuring found.
type section struct {
	Title string    `json:"title"`
	Found []finding `json:"found"`
}

var figures = map[string]func(sample) float64{
	"rate": rate, "p50": p50, "p99": p99, "cpu": cpu, "hostsCPU": hostsCPU, "perCommit": perCommit,
}

func tableOf(rows []row) []jsonRow {
	all := make([]jsonRow, 0, len(rows))
	for _, r := range rows {
		one := jsonRow{Clients: r.who, What: r.side.what, Figures: map[string]spread{}}
		for name, figure := range figures {
			one.Figures[name] = r.side.over(figure)
		}
		if r.base != nil {
			one.Ratios = map[string]spread{}
			for _, name := range []string{"rate", "p50", "p99"} {
				one.Ratios[name] = r.side.to(r.base, figures[name])
			}
		}
		for _, a := range r.aims {
			one.Aims = append(one.Aims, a.verdict(r))
		}
		all = append(all, one)
	}
	return all
}

// add prints a section, and keeps it.
func (r *report) add(title string, found ...finding) error {
	r.Found = append(r.Found, section{title, found})
	fmt.Printf("\n%s\n\n", title)
	return writeFindings(os.Stdout, found)
}

// keep writes the report to a file.
func (r *report) keep(name string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return errors.Wrap(err, "write the report")
	}
	return errors.Wrap(os.WriteFile(name, append(text, '\n'), 0o644), "keep the report")
}
