// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/archive"
	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/index"
	"github.com/ipamlog/ipamlog/store"
)

// session is one run of a command that asks the log.
type session struct {
	cfg    config.Config
	client *clientv3.Client
	log    *etcdlog.Log
	index  *index.Index
	out    render.Output
	stderr io.Writer
	now    time.Time
	zone   *time.Location
}

const timeoutFlag = "timeout"

// storePatience is how long an answer of the store is waited for unless --timeout
// says otherwise.
const storePatience = 10 * time.Second

// asking makes a command of one that asks the log: it gives it what these have
// in common, and a session to run in.
func asking(cmd *cobra.Command, run func(ctx context.Context, s *session, args []string) error) *cobra.Command {
	cmd.GroupID = GroupAsk
	cmd.Flags().Duration(timeoutFlag, storePatience, "how long to wait for an answer of the store")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := open(cmd, wantLog)
		if err != nil {
			return err
		}
		err = store.Explain(run(cmd.Context(), s, args), s.client)
		s.keepIndex(cmd.Context())
		return errors.CombineErrors(err, s.close())
	}
	return cmd
}

// open finds the store. What becomes of one without a log empty decides.
func open(cmd *cobra.Command, empty emptyStore) (*session, error) {
	cfg, err := Config(cmd)
	if err != nil {
		return nil, err
	}
	patience, err := cmd.Flags().GetDuration(timeoutFlag)
	if err != nil {
		return nil, errors.Wrap(err, "read --timeout")
	}
	if patience <= 0 {
		return nil, Usagef("--timeout %s is no time to wait: write one such as 10s", patience)
	}
	return openAs(cmd, cfg, patience, empty)
}

// emptyStore is what to do with a store that has no log yet.
type emptyStore func(ctx context.Context, s *session) (etcdlog.Store, error)

// wantLog refuses it.
func wantLog(_ context.Context, s *session) (etcdlog.Store, error) {
	return etcdlog.Store{}, noLog(s.cfg)
}

func noLog(cfg config.Config) error {
	return errors.Newf("there is no ipamlog log below %s in this store: start `ipamlog serve` on it once, or name the right place with --prefix", cfg.Prefix)
}

// beginLog begins one: ranges may be laid out before the first daemon starts.
func beginLog(ctx context.Context, s *session) (etcdlog.Store, error) {
	founded, err := s.log.Found(ctx)
	if err == nil {
		s.note("ipamlog: note: there was no ipamlog log below %s in this store: it begins now", s.cfg.Prefix)
	}
	return founded, err
}

// sessionOn is a command's session on a store that it has reached, whatever is there.
func sessionOn(cmd *cobra.Command, cfg config.Config, client *clientv3.Client) *session {
	log := etcdlog.New(client, cfg.Prefix)
	log.Archive = &archive.Shelf{Instead: cfg.Archive}
	return &session{
		cfg: cfg, out: render.NewOutput(cmd.OutOrStdout(), cfg.Output, cfg.NoColor), stderr: cmd.ErrOrStderr(),
		now: time.Now(), zone: time.Local, client: client, log: log,
	}
}

// openAs is open for a command that was asked to run this way already.
func openAs(cmd *cobra.Command, cfg config.Config, patience time.Duration, empty emptyStore) (*session, error) {
	client, err := store.Dial(cfg.Global)
	if err != nil {
		return nil, err
	}
	store.Patient(client, patience)
	s := sessionOn(cmd, cfg, client)
	identity, err := s.log.Store(cmd.Context())
	if errors.Is(err, etcdlog.ErrNoStore) {
		identity, err = empty(cmd.Context(), s)
	}
	if err != nil {
		return nil, errors.CombineErrors(store.Explain(err, s.client), s.close())
	}
	s.index = index.Open(s.log, identity.ID, cfg.Prefix, index.Dirs(cfg.DataDir)...)
	return s, nil
}

func (s *session) close() error {
	err := s.client.Close()
	if errors.Is(err, context.Canceled) {
		return nil // how a client says that it was closed
	}
	return errors.Wrap(err, "close the connection to the store")
}

// note says something about the answer, beside it.
func (s *session) note(format string, args ...any) {
	fmt.Fprintln(s.stderr, render.Line(fmt.Sprintf(format, args...)))
}

// show lists the records in the format that was asked for.
func show[T any](s *session, table render.Table[T], records []T) error {
	buffered := bufio.NewWriter(s.out.Writer)
	out := s.out
	out.Writer = buffered
	if err := table.List(out, records); err != nil {
		return err
	}
	return errors.Wrap(buffered.Flush(), "print the answer")
}

// journal adds the records of a span to the history, of some pools or, if it is nil,
// of all. It shows how far it is where somebody watches.
func (s *session) journal(ctx context.Context, h *replay.History, pools []*projection.PoolLife, span replay.Span) (*replay.Journal, error) {
	progress, done := s.progress()
	defer done()
	return h.Journal(ctx, s.log, pools, span, progress)
}

// history is every holding there ever was, of the index and what came since.
func (s *session) history(ctx context.Context) (*replay.History, error) {
	return s.historyBy(ctx, s.index.History)
}

// ownHistory is the same, for who goes on with it and changes it.
func (s *session) ownHistory(ctx context.Context) (*replay.History, error) {
	return s.historyBy(ctx, s.index.Release)
}

func (s *session) historyBy(ctx context.Context, read func(context.Context, func(int)) (*replay.History, error)) (*replay.History, error) {
	progress, done := s.progress()
	h, err := read(ctx, progress)
	done()
	if err != nil {
		return nil, err
	}
	s.doubt(h)
	return h, nil
}

// ask puts a question to the history for which little of the index is looked at.
// It may be asked twice, and must not print.
func (s *session) ask(ctx context.Context, question func(*replay.History) error) error {
	progress, done := s.progress()
	defer done()
	return s.index.Ask(ctx, progress, func(h *replay.History) error {
		done()
		s.doubt(h)
		return question(h)
	})
}

// keepIndex lets the next command profit from what this one has read. It comes
// after the answer, and no answer depends on it.
func (s *session) keepIndex(ctx context.Context) {
	if !s.index.Read() {
		return
	}
	if s.cfg.Debug {
		s.note("ipamlog: debug: %s", s.index.Describe(ctx))
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := s.index.Save(ctx); err != nil && s.cfg.Debug {
		s.note("ipamlog: debug: the index was not written: %v", err)
	}
}

// doubt warns of what an answer from this history may lack.
func (s *session) doubt(h *replay.History) {
	for _, u := range h.Timeline().Unread() {
		warn(s.stderr, "%d events of type %q were written by a newer version (%s, first at @%d), and the answer lacks what they say: upgrade ipamlog",
			u.Count, u.Type, cmp.Or(u.Writer, "unknown"), u.First)
	}
	if m := h.Timeline().Misfits(); len(m) > 0 {
		warn(s.stderr, "%d events contradict those before them and were passed over: look at @%s", len(m), strings.Join(m[:min(len(m), 3)], ", @"))
	}
}

// progress returns what to tell of commits read, and of their end. Nothing is
// shown before half a second has gone, or where nobody watches.
func (s *session) progress() (tell func(int), done func()) {
	return s.counting("reading the log: %d commits", 400*time.Millisecond)
}

// counting shows how far something is, after a while and where somebody watches.
func (s *session) counting(format string, after time.Duration) (tell func(int), done func()) {
	file, ok := s.stderr.(*os.File)
	if !ok || !isatty.IsTerminal(file.Fd()) {
		return nil, func() {}
	}
	last, shown := time.Now().Add(after), false
	tell = func(n int) {
		if time.Since(last) > 100*time.Millisecond {
			last, shown = time.Now(), true
			fmt.Fprintf(file, "\r"+format, n)
		}
	}
	done = func() {
		if shown {
			fmt.Fprint(file, "\r\x1b[K")
		}
	}
	return tell, done
}
