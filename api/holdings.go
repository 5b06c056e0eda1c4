// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	"net/netip"
	"strconv"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/columns"
)

// pools answers which pools there are, and how full.
func pools(q *question) error {
	states, err := replay.PoolsNow(q.ctx, q.source.Log)
	if err != nil {
		return err
	}
	return list(q, poolTable, states)
}

// holders answers who holds the addresses of a pool, or held them at a moment.
func holders(q *question) error {
	word := q.given.Get("pool")
	if !q.given.Has("at") {
		return holdersNow(q, word)
	}
	h, err := q.history()
	if err != nil {
		return err
	}
	m, err := q.moment(h, "at")
	if err != nil {
		return err
	}
	pool, _, err := h.PoolOrNetworkAt(word, m)
	if err != nil {
		return err
	}
	return list(q, holdingTable, h.Holders(pool, m))
}

func holdersNow(q *question, word string) error {
	catalogue, err := replay.Catalogue(q.ctx, q.source.Log)
	if err != nil {
		return err
	}
	pool, err := replay.OnePool(catalogue, word)
	whose := q.ask
	if errors.Is(err, replay.ErrNotFound) {
		// The guards know no networks; the log does.
		h, failed := q.history()
		if failed != nil {
			return failed
		}
		pool, _, err = h.PoolOrNetworkAt(word, h.Now(q.now))
		whose = func(question func(*replay.History) error) error { return question(h) }
	}
	if err != nil {
		return err
	}
	holdings, revision, err := replay.HoldersNow(q.ctx, q.source.Log, pool)
	if err != nil {
		return err
	}
	// The state does not say whose the containers are; the log does.
	err = whose(func(h *replay.History) error {
		h.Attribute(holdings)
		return nil
	})
	if err != nil {
		return err
	}
	q.understood("", replay.Moment{Revision: revision, Time: q.now})
	return list(q, holdingTable, holdings)
}

// who answers who held an address at a moment.
func who(q *question) error {
	address, err := netip.ParseAddr(q.given.Get("address"))
	if err != nil {
		return wrong("%q is not an address: write one such as 10.50.0.2 or fd00::2", q.given.Get("address"))
	}
	var found replay.Who
	err = q.ask(func(h *replay.History) error {
		m, err := q.moment(h, "at")
		if err != nil {
			return err
		}
		pools, err := q.pools(h)
		found = h.Who(address, pools, m)
		return err
	})
	if err != nil {
		return err
	}
	if len(found.Doubts) > 0 {
		q.w.Header().Add("Ipamlog-Warning", "the clocks leave open whether this is the answer (clock_doubt says when): ask at revisions too")
	}
	switch {
	case len(found.Holdings) == 0:
		return errors.WithStack(&problem{Status: http.StatusNotFound, Detail: nobody(found), Also: found})
	case q.format == render.FormatCSV:
		return list(q, sightingTable, columns.Sighted(found))
	}
	return q.one(found)
}

// nobody says that nobody held an address, and what is told instead.
func nobody(w replay.Who) string {
	if !w.Forgotten.IsZero() {
		return "nobody can say any more who held " + w.Address.String() + " at " + replay.Stamp(w.At.Time) + ": the log was forgotten up to " + replay.Stamp(w.Forgotten)
	}
	text := "nobody held " + w.Address.String() + " at " + replay.Stamp(w.At.Time) + " = @" + strconv.FormatInt(w.At.Revision, 10)
	if w.Before == nil && w.After == nil {
		return text + ", nor ever: see whether another pool is meant"
	}
	return text + ": before and after are the holdings next to it"
}

// pools finds the pools that are asked about, in all their incarnations; nil is
// any.
func (q *question) pools(h *replay.History) ([]*projection.PoolLife, error) {
	if !q.given.Has("pool") {
		return nil, nil
	}
	return h.PoolsEver(q.given.Get("pool"))
}

// history answers everything that a subject held.
func history(q *question) error {
	h, err := q.history()
	if err != nil {
		return err
	}
	subject, err := h.Subject(q.given.Get("subject"))
	if err != nil {
		return err
	}
	span, err := q.span(h, "since", "until")
	if err != nil {
		return err
	}
	holdings := h.Of(subject, span)
	if len(holdings) == 0 {
		return errors.Mark(errors.Newf("%s %s held nothing in that time: widen it", subject.Kind, subject.Word), replay.ErrNotFound)
	}
	return list(q, holdingTable, holdings)
}

// diff answers what changed hands in a pool between two moments.
func diff(q *question) error {
	h, err := q.history()
	if err != nil {
		return err
	}
	from, err := q.place(h.Moment, "from")
	if err != nil {
		return err
	}
	to, err := q.moment(h, "to")
	if err != nil {
		return err
	}
	q.understood("Since-", from)
	if from.Revision > to.Revision {
		return wrong("from is later than to: exchange them")
	}
	pools, _, err := h.PoolsOrNetworkEver(q.given.Get("pool"))
	if err != nil {
		return err
	}
	return list(q, changeTable, h.Diff(pools, from, to))
}
