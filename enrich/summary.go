// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"cmp"
	"slices"
)

// Reason says why a line could not be read.
type Reason string

const (
	tooLong     Reason = "too long"
	notCSV      Reason = "a quote that does not close, or stands where none can"
	otherWidth  Reason = "more or fewer fields than the header"
	notJSON     Reason = "no JSON object"
	joinedTwice Reason = "has been joined already"
	noField     Reason = "a field is missing"
	timeUnread  Reason = "the time is not understood"
	timeTwice   Reason = "the time was twice, for clocks were put back: --zone or a zone in the log tells"
	timeNever   Reason = "the time never was, for clocks were put forward"
	timeToCome  Reason = "the time is later than the history"
	timeBefore  Reason = "the time is before the log began"
	noAddress   Reason = "the address is not understood"
)

// Trouble is how many lines there were with one thing the matter.
type Trouble struct {
	Reason Reason
	Lines  int64
	First  int64 // the number of the first such line, from 1
}

// Summary is what became of the lines so far. Header, comments and empty lines are
// not counted.
type Summary struct {
	Bytes  int64 // read, of all lines
	Lines  int64 // records
	Joined int64 // of these: somebody held one of their addresses
	Nobody int64 // of these: nobody did
	// Unread are those that went through unchanged, by reason, the most frequent
	// first. Partly are those, joined or not, of whose several addresses not all
	// were understood.
	Unread []Trouble
	Partly Trouble
	// Doubtful are those, joined or not, of which the clocks leave open who held one
	// of the addresses.
	Doubtful Trouble

	passed int64 // line ends
}

// Unreadable is how many lines went through unchanged because they could not be read.
func (s Summary) Unreadable() int64 {
	n := int64(0)
	for _, t := range s.Unread {
		n += t.Lines
	}
	return n
}

// mark counts a line as one of these too.
func (s *Summary) mark(t *Trouble) {
	if t.Lines == 0 {
		t.First = s.passed + 1
	}
	t.Lines++
}

// trouble counts a line that stands so many lines below the first.
func (s *Summary) trouble(reason Reason) {
	for i := range s.Unread {
		if s.Unread[i].Reason == reason {
			s.Unread[i].Lines++
			return
		}
	}
	s.Unread = append(s.Unread, Trouble{reason, 1, s.passed + 1})
}

// add adds what became of the lines that follow.
func (s *Summary) add(next Summary) {
	for _, t := range next.Unread {
		i := slices.IndexFunc(s.Unread, func(known Trouble) bool { return known.Reason == t.Reason })
		if i < 0 {
			s.Unread = append(s.Unread, Trouble{t.Reason, 0, s.passed + t.First})
			i = len(s.Unread) - 1
		}
		s.Unread[i].Lines += t.Lines
	}
	for t, more := range map[*Trouble]Trouble{&s.Partly: next.Partly, &s.Doubtful: next.Doubtful} {
		if t.Lines == 0 && more.Lines > 0 {
			t.First = s.passed + more.First
		}
		t.Lines += more.Lines
	}
	s.Bytes += next.Bytes
	s.Lines += next.Lines
	s.Joined += next.Joined
	s.Nobody += next.Nobody
	s.passed += next.passed
}

// ordered returns a summary with the most frequent reasons first, which shares
// nothing with this one.
func (s *Summary) ordered() Summary {
	copied := *s
	copied.Unread = slices.SortedStableFunc(slices.Values(s.Unread), func(a, b Trouble) int { return cmp.Compare(b.Lines, a.Lines) })
	return copied
}
