// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/timespec"
)

// aboutTimes is the part of a help that explains how to write a moment.
const aboutTimes = `A moment T is written as a time (2026-11-21T03:12:00+01:00, "2026-11-21 03:12",
03:12, "yesterday 03:12", -2h, "2 days ago"), in the local zone unless it names
one, or as a revision of the log (@4711). What was understood is printed on
standard error. A time with a question mark behind it comes from a clock that
contradicted the others.`

// aboutSpans is the same for what has a beginning and an end.
const aboutSpans = aboutTimes + `

The end of a span may be still to come, and is then now. Its beginning must have
been, but for the revision next to the store's last one: who asks from behind the
last event that was seen gets what is new, or nothing yet.`

// momentFlag adds an option that takes a moment.
func momentFlag(cmd *cobra.Command, into *string, name, usage string) {
	cmd.Flags().Var((*momentText)(into), name, usage)
	_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions([]string{"now", "yesterday", "-1h"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
}

// momentText is the text of a moment. An empty one, as from a script whose
// variable is empty, is not the same as none.
type momentText string

// String implements [pflag.Value].
func (m *momentText) String() string { return string(*m) }

// Set implements [pflag.Value].
func (m *momentText) Set(text string) error {
	if strings.TrimSpace(text) == "" {
		return errors.New("no moment is given: write one such as now, 03:12 or @4711")
	}
	*m = momentText(text)
	return nil
}

// Type implements [pflag.Value].
func (*momentText) Type() string { return "moment" }

// moment finds the place in the log that the text of an option means; the
// otherwise one if it was not given.
func (s *session) moment(h *replay.History, flag, text string, otherwise replay.Moment) (replay.Moment, error) {
	if text == "" {
		return otherwise, nil
	}
	m, err := s.place(h.Moment, "--"+flag, text)
	if err == nil {
		s.note("%s %s", flag, s.understood(m))
		s.lacking(h, m)
	}
	return m, err
}

// place reads the text of an option and finds it in the log.
func (s *session) place(in func(timespec.Spec, time.Time) (replay.Moment, error), flag, text string) (replay.Moment, error) {
	spec, err := timespec.Parse(text, s.now, s.zone)
	if err != nil {
		return replay.Moment{}, errors.Mark(errors.Wrap(err, flag), ErrUsage)
	}
	m, err := in(spec, s.now)
	return m, errors.Wrap(err, flag)
}

// understood is a moment as people read it: time and revision.
func (s *session) understood(m replay.Moment) string {
	switch {
	case m.Time.IsZero():
		return at(m.Revision) + ", before the log began"
	case m.Revision == 0:
		return s.local(m.Time) + ", before the log began"
	}
	return s.local(m.Time) + " = " + at(m.Revision)
}

// onwards is a moment from which on something counts.
func (s *session) onwards(m replay.Moment) string {
	switch {
	case m.Time.IsZero():
		return "the beginning of the log"
	case m.Revision == 0:
		return s.local(m.Time) + ", before the log began"
	}
	return s.local(m.Time) + " = after " + at(m.Revision)
}

// local writes a time for people, exact enough to be asked for again.
func (s *session) local(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(s.zone).Format("2006-01-02T15:04:05.999999Z07:00")
}

// span reads the options --since and --until, or --from and --to.
func (s *session) span(h *replay.History, fromFlag, from, toFlag, to string) (replay.Span, error) {
	var span replay.Span
	var err error
	if from != "" {
		if span.From, err = s.place(h.Since, "--"+fromFlag, from); err != nil {
			return span, err
		}
		s.note("%s %s", fromFlag, s.onwards(span.From))
	}
	s.lacking(h, span.From)
	span.To = h.Now(s.now)
	if to != "" {
		if span.To, err = s.place(h.Until, "--"+toFlag, to); err != nil {
			return span, err
		}
		s.note("%s %s", toFlag, s.understood(span.To))
	}
	if span.From.Revision > span.To.Revision {
		return span, Usagef("--%s is later than --%s: exchange them", fromFlag, toFlag)
	}
	return span, nil
}
