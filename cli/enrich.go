// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/enrich"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/replay"
)

// enrichFlags are how the log is to be read.
type enrichFlags struct {
	time, timeFormat, zone string
	addresses              []string
	input, delimiter       string
	pool                   string
	strict                 bool
	stdin                  io.Reader
}

func enrichCommand() *cobra.Command {
	var f enrichFlags
	cmd := asking(&cobra.Command{
		Use:   "enrich [FILE] --time FIELD --ip FIELD…",
		Short: "Add to each line of a log who held its addresses then",
		Long: `Add to each line of a log (of a firewall, a proxy, a flow exporter) who held its
addresses at its time. The log is a FILE, or standard input; what it looks like
is found out: CSV with a header, Zeek's tab separated values, or one JSON object
on each line; packed with gzip or zstd, or not.

CSV gets for each field with addresses the columns FIELD_container,
_container_id, _image, _host, _network, _pool, _kind, _endpoint, _holders, which
is how many held the address (of several the others list all, with a bar
between), and _clock_doubt. A JSON object gets FIELD_holders, a list of objects.
All else of a line stays as it was.

Where the clocks of the hosts leave open who held an address, FIELD_clock_doubt
says from when to when they do: as FROM/TO in CSV, as an object in JSON.

A line that cannot be read, is before the log of addresses began, or is of a time
still to come goes through unchanged. How many there were, why, and which was the
first, standard error says at the end.

A log may be one that is still written (tail -f LOG | ipamlog enrich …): lines
later than the start wait a second or two, until what came since has been read.

A field of an object within the object is written with dots: source.ip. A time
may be written as RFC 3339 or much like it, as seconds, milli-, micro- or
nanoseconds since 1970, or as syslog or web servers do; for others, --time-format
is a layout of Go's: "02.01.2006 15:04:05".

Exit status: 0 done; 1 failed, or with --strict a line could not be read; 2 wrong
usage; 3 there never was such a pool.`,
		Example: `  ipamlog enrich firewall.csv --time ts --ip src,dst > joined.csv
  zcat eve.json.gz | ipamlog enrich --time timestamp --ip src_ip --ip dest_ip
  ipamlog enrich conn.log --time ts --ip id.orig_h,id.resp_h`,
		Args: mayHave("FILE"),
	}, func(ctx context.Context, s *session, args []string) error { return s.enrich(ctx, f, args) })
	flags := cmd.Flags()
	flags.StringVar(&f.time, "time", "", "the `FIELD` with the time of a line")
	flags.StringSliceVar(&f.addresses, "ip", nil, "a `FIELD` with an address; repeatable, or with commas")
	flags.StringVar(&f.timeFormat, "time-format", "", "the `LAYOUT` of times that are not understood without")
	flags.StringVar(&f.zone, "zone", "", "the `ZONE` of times that name none, such as Europe/Berlin or UTC (default the local one)")
	flags.StringVar(&f.input, "input", "", "the form of the log, csv or jsonl (default it is found out)")
	flags.StringVar(&f.delimiter, "delimiter", "", "the `CHARACTER` between fields of CSV, or tab (default it is found out)")
	flags.StringVar(&f.pool, "pool", "", "look in this pool alone: a name, a subnet or an id")
	flags.BoolVar(&f.strict, "strict", false, "end with status 1 if a line could not be read")
	_ = cmd.RegisterFlagCompletionFunc("input", cobra.FixedCompletions([]string{"csv", "jsonl"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("pool", func(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		return completePools(cmd, nil, toComplete)
	}) // fails only for a flag that is not there
	// What is wrong is said before the store is asked.
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("output") {
			return Usagef("enrich writes a log as it reads it: leave --output out")
		}
		f.stdin = cmd.InOrStdin()
		_, err := f.options(time.Now(), time.Local)
		return err
	}
	return cmd
}

// options reads the flags.
func (f *enrichFlags) options(now time.Time, zone *time.Location) (enrich.Options, error) {
	o := enrich.Options{
		Time: f.time, Addresses: f.addresses, Input: enrich.Input(f.input),
		Clock: enrich.Clock{Layout: f.timeFormat, Zone: zone, Now: now},
	}
	if f.time == "" || len(f.addresses) == 0 {
		return o, Usagef("name the field with the time and those with addresses: ipamlog enrich --time ts --ip src,dst")
	}
	if err := o.Check(); err != nil {
		return o, errors.Mark(err, ErrUsage)
	}
	if o.Input != "" && o.Input != enrich.CSV && o.Input != enrich.JSONL {
		return o, Usagef("--input %s is no form of a log: write csv or jsonl", f.input)
	}
	if f.zone != "" {
		var err error
		if o.Clock.Zone, err = time.LoadLocation(f.zone); err != nil {
			return o, Usagef("--zone %s is not known on this machine: write one such as Europe/Berlin or UTC", f.zone)
		}
	}
	switch d := f.delimiter; {
	case d == "tab" || d == `\t`:
		o.Delimiter = '\t'
	case len(d) == 1 && d[0] < 0x80 && !strings.ContainsAny(d, "\"\r\n\x00"):
		o.Delimiter = d[0]
	case d != "":
		return o, Usagef("--delimiter %q can not be between fields: write one character, or tab", d)
	}
	return o, nil
}

// enrich joins a log with the history.
func (s *session) enrich(ctx context.Context, f enrichFlags, args []string) error {
	o, err := f.options(s.now, s.zone)
	if err != nil {
		return err
	}
	log := f.stdin
	if len(args) > 0 && args[0] != "-" {
		file, err := os.Open(args[0])
		if err != nil {
			return errors.Newf("the log cannot be read, name another file: %v", err)
		}
		defer file.Close()
		if is, err := file.Stat(); err == nil && is.IsDir() {
			return errors.Newf("the log cannot be read, name another file: %s is a directory", args[0])
		}
		log = file
	}
	if o.History, err = s.history(ctx); err != nil {
		return err
	}
	s.lacking(o.History, replay.Moment{})
	if f.pool != "" {
		if o.Pools, err = o.History.PoolsEver(f.pool); err != nil {
			return err
		}
	}
	o.Again = func(ctx context.Context) (*replay.History, []*projection.PoolLife, error) {
		return s.pastOf(ctx, f.pool)
	}
	plain, err := enrich.Unpack(log)
	if err != nil {
		return err
	}
	s.keepIndex(ctx) // and then the history need not stay in memory
	tell, done := s.joining()
	sum, err := enrich.Join(ctx, plain, s.out.Writer, o, tell)
	done()
	if errors.Is(err, syscall.EPIPE) {
		return nil // who read it has enough
	}
	if !errors.Is(err, enrich.ErrForm) {
		s.summarize(sum)
	}
	if err == nil && f.strict && sum.Unreadable() > 0 {
		return errors.Newf("%d lines could not be read: look at the first of each kind", sum.Unreadable())
	}
	return errors.CombineErrors(err, plain.Close())
}

// pastOf is the history as it is now, and its pools that a word means; nil: any. It
// says nothing, for the log is being joined.
func (s *session) pastOf(ctx context.Context, pool string) (*replay.History, []*projection.PoolLife, error) {
	h, err := s.index.History(ctx, nil)
	if err != nil || pool == "" {
		return h, nil, err
	}
	pools, err := h.PoolsEver(pool)
	return h, pools, err
}

// summarize tells what became of the lines.
func (s *session) summarize(sum enrich.Summary) {
	s.note("%d lines: %d joined, %d with addresses that nobody held, %d unchanged", sum.Lines, sum.Joined, sum.Nobody, sum.Unreadable())
	for _, t := range sum.Unread {
		s.note("unchanged %d, first in line %d: %s", t.Lines, t.First, t.Reason)
	}
	if t := sum.Partly; t.Lines > 0 {
		s.note("not in full %d, first in line %d: one of several addresses is not understood", t.Lines, t.First)
	}
	if t := sum.Doubtful; t.Lines > 0 {
		s.note("in doubt %d, first in line %d: the clocks of the hosts leave open who held an address: FIELD_clock_doubt says from when to when", t.Lines, t.First)
	}
}

// joining shows how far the joining is, after a while and where somebody watches,
// and the joined lines go elsewhere.
func (s *session) joining() (tell func(enrich.Summary), done func()) {
	file, ok := s.stderr.(*os.File)
	if out, same := s.out.Writer.(*os.File); !ok || !isatty.IsTerminal(file.Fd()) || same && isatty.IsTerminal(out.Fd()) {
		return nil, func() {}
	}
	began := time.Now()
	last, shown := began.Add(400*time.Millisecond), false
	tell = func(sum enrich.Summary) {
		if time.Since(last) > 100*time.Millisecond {
			last, shown = time.Now(), true
			fmt.Fprintf(file, "\r\x1b[Kjoining: %d lines, %d MB, %.0f lines/s", sum.Lines, sum.Bytes/1_000_000, float64(sum.Lines)/time.Since(began).Seconds())
		}
	}
	done = func() {
		if shown {
			fmt.Fprint(file, "\r\x1b[K")
		}
	}
	return tell, done
}
