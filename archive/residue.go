// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

const (
	residuePrefix = "residue-"
	residueSuffix = ".jsonl.zst"
	noteSuffix    = ".note"
)

// residueHead is the first line of a residue's file. Its further lines are commits as
// those of a segment, but without the events that were forgotten.
type residueHead struct {
	Residue string    `json:"residue"` // the format
	Origin  string    `json:"origin"`
	Store   events.ID `json:"store"`
	Claim   int64     `json:"claim"` // etcdlog.Claim's number
	Last    int64     `json:"last"`  // the revision up to which the log was forgotten
	Running time.Time `json:"running"`
	Commits int64     `json:"commits"` // that are left
	// Missing is how many commits of each stream are not left, and where the last one was
	// that it had up to the border.
	Missing map[events.Stream]etcdlog.Head `json:"missing"`
	// Size and Root are the Merkle tree at the border.
	Size int64     `json:"size"`
	Root tlog.Hash `json:"root"`
}

// residue is one that was made, and not kept yet.
type residue struct {
	head    residueHead
	content []byte
	sum     [sha256.Size]byte
}

// file is the name of a residue's file. Who has put it there is in the name, so that of
// two who forget at once neither takes the other's for left over.
func (r residue) file() string {
	return fmt.Sprintf("%s%016d-%d-%x%s", residuePrefix, r.head.Last, r.head.Claim, r.sum[:4], residueSuffix)
}

// record is what the store is told of it.
func (r residue) record(place string) etcdlog.Residue {
	return etcdlog.Residue{
		Last: r.head.Last, Running: r.head.Running, Commits: r.head.Commits,
		Place: place, File: r.file(), SHA256: hex.EncodeToString(r.sum[:]),
	}
}

// residueOf reads the name of a residue or of its note: the residue's file, up to where
// it tells the log was forgotten, and the number of the claim under which it was put
// there.
func residueOf(name string) (file string, last, claim int64, is bool) {
	stem, of := strings.CutSuffix(name, noteSuffix)
	if !of {
		stem, of = strings.CutSuffix(name, residueSuffix)
	}
	parts := strings.Split(stem, "-")
	if !of || len(parts) != 4 || parts[0]+"-" != residuePrefix {
		return "", 0, 0, false
	}
	last, first := strconv.ParseInt(parts[1], 10, 64)
	claim, second := strconv.ParseInt(parts[2], 10, 64)
	return stem + residueSuffix, last, claim, first == nil && second == nil
}

// unfinishedOf reads the name of what somebody who was killed has left of a segment or a
// residue that he was putting into a directory (see [durable.Unfinished]): the number of his
// claim.
func unfinishedOf(name string) (claim int64, is bool) {
	whole, hidden := strings.CutPrefix(name, ".")
	end := strings.LastIndex(whole, ".")
	if !hidden || end < 0 {
		return 0, false
	}
	if s, is := segmentOf(whole[:end]); is {
		return s.claim, true
	}
	_, _, claim, is = residueOf(whole[:end])
	return claim, is
}

func isResidue(name string) bool {
	return strings.HasPrefix(name, residuePrefix) && strings.HasSuffix(name, residueSuffix)
}

// noteOf is the name of the signed statement about a residue.
func noteOf(file string) string { return strings.TrimSuffix(file, residueSuffix) + noteSuffix }

// text is what is signed about a residue: who forgot the log, and up to where, and that
// this file is all that is left. Its second line is no number, so that nobody can take it
// for a checkpoint.
func (r residue) text() string {
	h := r.head
	return h.Origin + "\n" +
		"residue up to revision " + strconv.FormatInt(h.Last, 10) + "\n" +
		strconv.FormatInt(h.Size, 10) + "\n" +
		base64.StdEncoding.EncodeToString(h.Root[:]) + "\n" +
		"file " + r.file() + " sha256 " + hex.EncodeToString(r.sum[:]) + "\n"
}

func (r residue) sign(key note.Signer) ([]byte, error) {
	signed, err := note.Sign(&note.Note{Text: r.text()}, key)
	return signed, errors.Wrap(err, "sign a residue")
}

// packResidue makes the file.
func packResidue(h residueHead, commits []etcdlog.RawCommit) (residue, error) {
	h.Residue, h.Commits = format, int64(len(commits))
	var lines bytes.Buffer
	for _, c := range commits {
		line, err := encodeLine(c)
		if err != nil {
			return residue{}, err
		}
		lines.Write(append(line, '\n'))
	}
	content, err := packFile(h, lines.Bytes())
	return residue{h, content, sha256.Sum256(content)}, errors.Wrap(err, "pack a residue")
}

// unpackResidue goes over a residue's file, and its commits if take is not nil. It fails where the head does not say how many
// commits there are.
func unpackResidue(content []byte, take func(etcdlog.RawCommit) error) (residue, error) {
	r := residue{content: content, sum: sha256.Sum256(content)}
	var commits, last int64
	err := unpackFile(content, func(text []byte) error {
		if err := json.Unmarshal(text, &r.head); err != nil {
			return errors.Mark(errors.Wrap(err, "read the head of a residue"), events.ErrMalformed)
		}
		if r.head.Residue != format {
			return errors.Wrapf(events.ErrMalformed, "it is a residue of format %q, and this program reads %q", r.head.Residue, format)
		}
		return nil
	}, func(_ []byte, c etcdlog.RawCommit) error {
		if commits++; commits > r.head.Commits || c.Revision <= last || c.Revision > r.head.Last {
			return errors.Wrapf(events.ErrMalformed, "commit %s at revision %d is none of this residue", c.ID, c.Revision)
		}
		last = c.Revision
		if take == nil {
			return nil
		}
		return take(c)
	})
	if err == nil && commits != r.head.Commits {
		err = errors.Wrapf(events.ErrMalformed, "the residue has %d of its %d commits", commits, r.head.Commits)
	}
	return r, err
}

// openResidue reads the signed statement about a residue. It fails unless one of the keys
// has signed it, byte for byte.
func openResidue(signed []byte, keys note.Verifiers, r residue) error {
	n, err := note.Open(signed, keys)
	if err != nil {
		return errors.Newf("it is not signed by a key that is known here: %v", err)
	}
	if err := exact(signed, n); err != nil {
		return err
	}
	if n.Text != r.text() {
		return errors.New("it is not the statement about the residue beside it")
	}
	return nil
}

// remnant finds out what the state at the end of a part of the log rests on. The zero
// value is that of an empty log, after [newRemnant].
type remnant struct {
	streams map[events.Stream]*rest
	commits map[int64]*kept
	came    map[events.Stream]etcdlog.Head
	running time.Time
	leader  int64 // the revision of the commit that moved the running time to where it is
	last    int64 // the revision of the last one
}

// kept is a commit of which something is left.
type kept struct {
	raw    etcdlog.RawCommit
	events map[int]bool
}

// eventAt is where an event stands in the log.
type eventAt struct {
	revision int64
	index    int
}

// rest is what is left of a pool.
type rest struct {
	guards    events.Guards
	pool      []eventAt
	grants    map[events.ID][]eventAt
	addresses map[string]*stay
}

// stay is what happened to an address since it was last free.
type stay struct {
	places      []eventAt
	allocations map[events.ID]bool
}

func newRemnant() *remnant {
	return &remnant{streams: map[events.Stream]*rest{}, commits: map[int64]*kept{}, came: map[events.Stream]etcdlog.Head{}}
}

// add takes the next commit of the log.
func (m *remnant) add(raw etcdlog.RawCommit) error {
	m.came[raw.Stream] = etcdlog.Head{Commits: m.came[raw.Stream].Commits + 1, Revision: max(raw.Revision, m.came[raw.Stream].Revision)}
	commit, err := events.Decode(raw.Value)
	if err != nil {
		return errors.Wrapf(err, "read commit %s of stream %s (revision %d)", raw.ID, raw.Stream, raw.Revision)
	}
	commit.Stream, commit.ID = raw.Stream, raw.ID
	r := events.Record{Commit: commit, Revision: raw.Revision}
	k := &kept{raw, map[int]bool{}}
	before := m.last
	m.last = raw.Revision
	m.release(before)
	m.commits[raw.Revision] = k
	for i, e := range r.Events {
		if err := m.event(r, i, e); err != nil {
			return err
		}
	}
	if !r.ClockSuspect && r.Time.After(m.running) {
		before := m.leader
		m.running, m.leader = r.Time, raw.Revision
		m.release(before)
	}
	return nil
}

// release forgets a commit of which nothing is left. The last one, and the one that the
// running time rests on, stay without their events: moments are found by them.
func (m *remnant) release(revision int64) {
	if k := m.commits[revision]; k != nil && len(k.events) == 0 && revision != m.leader && revision != m.last {
		delete(m.commits, revision)
	}
}

func (m *remnant) keep(p eventAt) { m.commits[p.revision].events[p.index] = true }

func (m *remnant) forget(places []eventAt) {
	for _, p := range places {
		delete(m.commits[p.revision].events, p.index)
		m.release(p.revision)
	}
}

// event decides what an event leaves, and what it makes needless that was left before.
func (m *remnant) event(r events.Record, index int, e events.Event) error {
	p := eventAt{r.Revision, index}
	if !ofPool(r.Stream) {
		m.keep(p) // of the catalogue, or of a stream that a newer version made
		return nil
	}
	if u, ok := e.(events.Unknown); ok {
		return errors.Newf("event %s is a %q of a newer version (%s), and what rests on it is not known: upgrade ipamlog, and forget then", r.Name(index), u.Name, r.Writer)
	}
	s := m.streams[r.Stream]
	if s == nil {
		s = &rest{events.NewGuards(), nil, map[events.ID][]eventAt{}, map[string]*stay{}}
		m.streams[r.Stream] = s
	}
	alone := r
	alone.Events = []events.Event{e}
	if err := s.guards.Apply(alone); err != nil {
		return nil //nolint:nilerr // what contradicts the log before it changes no state, for any reader
	}
	switch e := e.(type) {
	case events.PoolCreated, events.PoolChanged:
		m.keep(p)
		s.pool = append(s.pool, p)
	case events.PoolRetired:
		m.forget(s.pool)
		for _, places := range s.grants {
			m.forget(places)
		}
		for _, a := range s.addresses {
			m.forget(a.places)
		}
		delete(m.streams, r.Stream)
	case events.GrantOpened:
		m.grant(s, e.Grant, p)
	case events.GrantReopened:
		m.grant(s, e.Grant, p)
	case events.GrantClosing:
		m.grant(s, e.Grant, p)
	case events.GrantClosed:
		m.forget(s.grants[e.Grant])
		delete(s.grants, e.Grant)
	case events.AddressAllocated:
		m.address(s, e.Address.String(), e.Allocation, true, p)
	case events.AddressReserved:
		m.address(s, e.Address.String(), e.Allocation, true, p)
	case events.AddressAttributed:
		m.address(s, e.Address.String(), e.Allocation, false, p)
	case events.AddressSuspected:
		m.address(s, e.Address.String(), e.Allocation, false, p)
	case events.AddressCleared:
		m.address(s, e.Address.String(), e.Allocation, false, p)
	case events.AddressReleased:
		m.freed(s, e.Address.String(), e.Allocation, s.guards.Held[e.Address].Present(), p)
	case events.AddressReclaimed:
		m.freed(s, e.Address.String(), e.Allocation, s.guards.Held[e.Address].Present(), p)
	case events.AddressUnreserved:
		m.freed(s, e.Address.String(), e.Allocation, s.guards.Held[e.Address].Present(), p)
	default: // no state rests on it
	}
	return nil
}

func ofPool(s events.Stream) bool {
	_, err := events.ParseID(string(s))
	return err == nil
}

func (m *remnant) grant(s *rest, id events.ID, p eventAt) {
	m.keep(p)
	s.grants[id] = append(s.grants[id], p)
}

// address keeps an event of a holding since whose beginning the address was never free.
func (m *remnant) address(s *rest, address string, allocation events.ID, begins bool, p eventAt) {
	a := s.addresses[address]
	if a == nil {
		a = &stay{nil, map[events.ID]bool{}}
		s.addresses[address] = a
	}
	if begins {
		a.allocations[allocation] = true
	}
	if a.allocations[allocation] {
		m.keep(p)
		a.places = append(a.places, p)
	}
}

// freed ends a holding; with the last one of an address all of them are forgotten.
func (m *remnant) freed(s *rest, address string, allocation events.ID, held bool, p eventAt) {
	if held {
		m.address(s, address, allocation, false, p)
		return
	}
	if a := s.addresses[address]; a != nil {
		m.forget(a.places)
	}
	delete(s.addresses, address)
}

// lack takes what an earlier residue lacks.
func (m *remnant) lack(missing map[events.Stream]etcdlog.Head) {
	for s, gone := range missing {
		m.came[s] = etcdlog.Head{Commits: m.came[s].Commits + gone.Commits, Revision: max(m.came[s].Revision, gone.Revision)}
	}
}

// left are the commits that are left, in their order, and how many of each stream are
// not.
func (m *remnant) left() ([]etcdlog.RawCommit, map[events.Stream]etcdlog.Head, error) {
	missing := maps.Clone(m.came)
	var list []etcdlog.RawCommit
	for _, revision := range slices.Sorted(maps.Keys(m.commits)) {
		k := m.commits[revision]
		c, err := k.commit()
		if err != nil {
			return nil, nil, err
		}
		list = append(list, c)
		gone := missing[c.Stream]
		gone.Commits--
		missing[c.Stream] = gone
	}
	maps.DeleteFunc(missing, func(_ events.Stream, gone etcdlog.Head) bool { return gone.Commits == 0 })
	return list, missing, nil
}

// commit is what is left of one, every byte of which that is not an event is as it was.
func (k *kept) commit() (etcdlog.RawCommit, error) {
	var fields map[string]json.RawMessage
	var list []json.RawMessage
	err := json.Unmarshal(k.raw.Value, &fields)
	if err == nil {
		err = json.Unmarshal(fields["events"], &list)
	}
	if err != nil {
		return k.raw, errors.Wrapf(err, "read commit %s again", k.raw.ID)
	}
	left := []json.RawMessage{}
	for i, e := range list {
		if k.events[i] {
			left = append(left, e)
		}
	}
	if len(left) == len(list) {
		return k.raw, nil
	}
	if fields["events"], err = json.Marshal(left); err != nil {
		return k.raw, errors.Wrap(err, "write what is left of a commit")
	}
	c := k.raw
	c.Value, err = json.Marshal(fields)
	return c, errors.Wrap(err, "write what is left of a commit")
}
