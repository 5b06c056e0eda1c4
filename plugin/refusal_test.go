// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/plugin"
)

// Every refusal is one line, begins with the words users know, and ends with
// what to do.
func TestRefusals(t *testing.T) {
	nasty := "10.1.0.5 is held by endpoint a\nb\x1b[31m\x00" + strings.Repeat("c", 10_000)
	seen := map[string]bool{}
	for _, tt := range []struct {
		is      error
		outcome string
		begins  string
	}{
		{actor.ErrInUse, "in_use", "Address already in use (%s): choose"},
		{actor.ErrExhausted, "exhausted", "No available addresses (%s): remove"},
		{actor.ErrSetAside, "set_aside", "The address is set aside (%s): choose"},
		{actor.ErrMirror, "mirror", "The addresses of a Swarm network are its manager's to choose (%s): start"},
		{actor.ErrOutOfRange, "out_of_range", "Requested address is out of range (%s): choose"},
		{actor.ErrOverlap, "overlap", "Pool overlaps with other one on this address space (%s): choose"},
		{actor.ErrOnHost, "on_host", "Docker wants the subnet of this pool to be named (%s): repeat"},
		{etcdlog.ErrOtherStore, "other_store", "Another store is behind this address (%s): name"},
		{actor.ErrNoSubnet, "no_subnet", "All predefined address pools have been fully subnetted (%s): name"},
		{actor.ErrContradicts, "contradicts", "The pool exists with other settings (%s): leave"},
		{actor.ErrNoGrant, "no_grant", "The grant is not open (%s): "},
		{actor.ErrStoreSilent, "store_silent", "The store does not answer (%s): check that etcd"},
		{actor.ErrOverloaded, "overloaded", "Too many requests are waiting (%s): try again"},
		{actor.ErrStopping, "stopping", "The daemon is stopping (%s): try again"},
		{actor.ErrBroken, "broken", "The pool's log cannot be read (%s): upgrade"},
		{etcdlog.ErrFenced, "fenced", "Another daemon has joined as this host (%s): stop"},
		{etcdlog.ErrFull, "store_full", "The store is full (%s): compact"},
		{etcdlog.ErrRejected, "rejected", "The store refused (%s): check"},
		{etcdlog.ErrUnknown, "store_silent", "The store did not answer (%s): check that etcd"},
		{plugin.ErrStarting, "starting", "Ipamlog is starting and waits for its store (%s): check that etcd"},
		{actor.ErrUnlooked, "unlooked", "It is not known yet which addresses this host's containers use (%s): try again"},
		{plugin.ErrPoolID, "bad_request", "Not a PoolID of ipamlog (%s): create"},
		{plugin.ErrOption, "bad_request", "Invalid option (%s)"},
		{plugin.ErrRequest, "bad_request", "Invalid request (%s)"},
		{context.Canceled, "canceled", "Context canceled (%s): try again"},
		{errors.New("something else"), "error", ""},
	} {
		seen[tt.outcome] = true
		for name, err := range map[string]error{
			"bare":    tt.is,
			"wrapped": errors.Wrap(tt.is, "where"),
			"marked":  errors.Mark(errors.New("where"), tt.is),
			"nasty":   errors.Wrap(tt.is, nasty),
		} {
			outcome, said := plugin.Refusal(err)
			if name == "marked" && tt.outcome == "error" {
				continue
			}
			if outcome != tt.outcome {
				t.Errorf("%v (%s) counts as %s, want %s", tt.is, name, outcome, tt.outcome)
			}
			if i := strings.IndexFunc(said, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				t.Errorf("%v (%s): %q is no line", tt.is, name, said)
			}
			if len(said) > plugin.MaxWhere+300 {
				t.Errorf("%v (%s): %d bytes", tt.is, name, len(said))
			}
			if strings.HasSuffix(said, ".") || strings.HasSuffix(said, ": ") {
				t.Errorf("%v (%s): %q", tt.is, name, said)
			}
			switch want := fmt.Sprintf(tt.begins, "where"); {
			case tt.outcome == "error":
				if !strings.HasSuffix(said, ": see ipamlog's log") {
					t.Errorf("%v (%s): %q", tt.is, name, said)
				}
			case (name == "wrapped" || name == "marked") && !strings.HasPrefix(said, want):
				t.Errorf("%v (%s): %q, want %q", tt.is, name, said, want)
			case name == "bare" && !strings.HasPrefix(said, strings.Split(tt.begins, " (")[0]):
				t.Errorf("%v (%s): %q", tt.is, name, said)
			}
		}
	}
	for outcome, advice := range plugin.Outcomes() {
		if !seen[outcome] {
			t.Errorf("outcome %s is not in this table", outcome)
		}
		if advice == "" && outcome != "bad_request" {
			t.Errorf("outcome %s comes without advice", outcome)
		}
	}
}
