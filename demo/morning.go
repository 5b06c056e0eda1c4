// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/cockroachdb/errors"
)

// breath is the pause between two acts, so that their times differ in what
// people read of a time.
const breath = 1200 * time.Millisecond

// morning is the story.
func morning(ctx context.Context, sh shell, d *docker) error {
	for i, act := range []func(context.Context, shell, *docker) error{busy, handedOn, runDry, asked} {
		if i > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(breath):
			}
		}
		if err := act(ctx, sh, d); err != nil {
			return err
		}
	}
	return nil
}

// all does one thing after the other.
func all(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// busy: two networks and the shop on them.
func busy(_ context.Context, sh shell, d *docker) error {
	sh.say("Two networks, and a shop. What Docker would be told, and what the daemon answers:")
	return all(
		func() error { return d.createNetwork("web", "10.50.0.0/24") },
		func() error { return d.createNetwork("db", "10.60.0.0/29") },
		func() error { return d.run("web", "shop-1", "nginx:1.27", "") },
		func() error { return d.run("web", "shop-2", "nginx:1.27", "") },
		func() error { return d.run("web", "cart", "cart:5", "") },
	)
}

// handedOn: an address goes to another container, and its owner comes back.
func handedOn(_ context.Context, sh shell, d *docker) error {
	sh.say("A release: shop-2 is stopped, somebody else is given its address, and it comes back.")
	return all(
		func() error { return d.stop("shop-2") },
		func() error { return d.run("web", "batch", "batch:nightly", "10.50.0.3") },
		func() error { return d.startAgain("web", "shop-2") },
	)
}

// runDry: a pool has no more, until something stops.
func runDry(_ context.Context, sh shell, d *docker) error {
	sh.say("The network db is small, and somebody scales up.")
	for i := range 5 {
		if err := d.run("db", fmt.Sprintf("pg-%d", i+1), "postgres:18", ""); err != nil {
			return err
		}
	}
	return all(
		func() error { return d.refused("db", "pg-6", "postgres:18") },
		func() error { return d.stop("pg-2") },
		func() error { return d.run("db", "pg-6", "postgres:18", "") },
	)
}

// asked: the questions afterwards.
func asked(ctx context.Context, sh shell, _ *docker) error {
	holding, err := first(ctx, sh, "10.50.0.3")
	if err != nil {
		return err
	}
	// A whole second, as firewalls write it: there is one in the holding, for it
	// lasted longer than that.
	then := holding.From.Add(time.Second).Truncate(time.Second).Local().Format(time.DateTime)
	during, between := fmt.Sprintf("@%d", holding.FromRevision), fmt.Sprintf("@%d", holding.ToRevision)
	fmt.Fprintf(sh.out, "\n$ export IPAMLOG_DATA_DIR=%s\n", sh.dir)
	for _, question := range []struct {
		why    string
		status int
		args   []string
	}{
		{"What is there now?", 0, []string{"pools"}},
		{"Who holds what in web?", 0, []string{"holders", "web"}},
		{"The firewall logged something odd from 10.50.0.3. Who has it now?", 0, []string{"who", "10.50.0.3"}},
		{"But that is not who had it then.", 0, []string{"who", "10.50.0.3", "--at", then}},
		{"The same at a revision of the log, which no clock can blur.", 0, []string{"who", "10.50.0.3", "--at", during}},
		{"And when shop-2 had just given it back?", 3, []string{"who", "10.50.0.3", "--at", between}},
		{"Everything that address ever was, and everything that container ever had.", 0, []string{"history", "10.50.0.3"}},
		{"", 0, []string{"history", "shop-2"}},
		{"The log itself: who ran db dry?", 0, []string{"tail", "db"}},
	} {
		if question.why != "" {
			sh.say(question.why)
		}
		if err := sh.run(ctx, question.status, question.args...); err != nil {
			return err
		}
	}
	return nil
}

// span is when a holding was.
type span struct {
	From         time.Time `json:"from"`
	FromRevision int64     `json:"from_revision"`
	ToRevision   int64     `json:"to_revision"`
}

// first finds the first holding of an address.
func first(ctx context.Context, sh shell, address string) (span, error) {
	var holdings []span
	if err := sh.ask(ctx, &holdings, "history", address); err != nil {
		return span{}, err
	}
	if len(holdings) == 0 {
		return span{}, errors.Newf("nobody ever held %s: report this", address)
	}
	return holdings[0], nil
}
