// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"strings"
	"unicode"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// refusals are the outcomes that users and dashboards tell apart, with what to
// do about each. The first that fits counts.
var refusals = []struct {
	is      error
	outcome string
	advice  string // put behind the error's own words; empty where they say it all
}{
	{actor.ErrExhausted, "exhausted", "remove containers or networks, or give the pool more with a larger subnet or `ipamlog ip-range`"},
	{actor.ErrInUse, "in_use", "choose another address"},
	{actor.ErrSetAside, "set_aside", "choose another address"},
	{actor.ErrMirror, "mirror", "start the container as a service, or on an attachable network"},
	{actor.ErrOutOfRange, "out_of_range", "choose an address of the subnet"},
	{actor.ErrOverlap, "overlap", "choose another subnet, or a name of its own for the pool with --ipam-opt pool=NAME, where Docker lets networks overlap"},
	{actor.ErrContradicts, "contradicts", "leave the differing option out, or name another pool"},
	{actor.ErrOnHost, "on_host", "repeat the pool's subnet with --subnet"},
	{actor.ErrNoSubnet, "no_subnet", "name one with --subnet, or give the daemon more with --default-address-pool"},
	{actor.ErrNoGrant, "no_grant", "create the network again"},
	{actor.ErrOverloaded, "overloaded", "try again in a moment"},
	{actor.ErrStopping, "stopping", "try again once ipamlog is running"},
	{actor.ErrBroken, "broken", "upgrade ipamlog on this host, and see its log"},
	{etcdlog.ErrOtherStore, "other_store", "name the right store, or see `ipamlog adopt --help`"},
	{etcdlog.ErrFenced, "fenced", "stop the other ipamlog daemon of this host"},
	{etcdlog.ErrFull, "store_full", "compact and defragment etcd, then end its alarm with `etcdctl alarm disarm` (docs/operations.md has the commands)"},
	{etcdlog.ErrRejected, "rejected", "check the etcd user's permissions, and ipamlog's log"},
	{actor.ErrStoreSilent, "store_silent", "check that etcd is up and has a leader, then try again"},
	{etcdlog.ErrUnknown, "store_silent", "check that etcd is up and has a leader, then try again"},
	{ErrStarting, "starting", "check that etcd is up, and ipamlog's log"},
	{actor.ErrUnlooked, "unlooked", "try again in a moment, and if that goes on, see that --engine is the Docker that asks, or do without looking with --engine off"},
	{ErrPoolID, "bad_request", "create the network again"},
	{ErrOption, "bad_request", ""},
	{ErrRequest, "bad_request", ""},
	{context.Canceled, "canceled", "try again"},
}

// refusal says of an error what it counts as, and what the user is told: one
// sentence, with what to do.
func refusal(err error) (outcome, sentence string) {
	for _, r := range refusals {
		if !errors.Is(err, r.is) {
			continue
		}
		sentence = lead(err, r.is)
		if r.advice != "" {
			sentence += ": " + r.advice
		}
		return r.outcome, sentence
	}
	return "error", oneLine(err.Error()) + ": see ipamlog's log"
}

// maxWhere is how many bytes of an error's own words the user is shown: what was
// asked for may stand in them, as long as it likes.
const maxWhere = 500

// oneLine makes words fit for a line.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) > maxWhere {
		s = strings.ToValidUTF8(s[:maxWhere], "") + "…"
	}
	return s
}

// lead puts the words users know first, in the built-in driver's writing: what
// is wrong, and behind it where.
func lead(err, sentinel error) string {
	what := sentinel.Error()
	where := strings.TrimSuffix(strings.TrimSuffix(err.Error(), what), ": ")
	where = oneLine(strings.TrimPrefix(strings.TrimPrefix(where, what), ": "))
	what = strings.ToUpper(what[:1]) + what[1:]
	if where == "" {
		return what
	}
	return what + " (" + where + ")"
}
