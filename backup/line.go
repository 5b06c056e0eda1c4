// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// Format is the format of the file that this program writes and reads.
const Format = 1

// Header is the first line: what the file is a backup of.
type Header struct {
	Format   int           `json:"format"`
	Version  string        `json:"version"` // of the program that wrote it
	Time     time.Time     `json:"time"`    // at which it was written
	Prefix   string        `json:"prefix"`  // at which the log was
	Revision int64         `json:"revision"`
	Store    etcdlog.Store `json:"store"`
}

// End is the last line: what all that came before it amounts to.
type End struct {
	Commits int `json:"commits"`
	Heads   int `json:"heads"`
	Guards  int `json:"guards"`
	// SHA256 is of the lines before this one, each with its newline, in hex.
	SHA256 string `json:"sha256"`
}

// Line is one line of the file. The fields that are set tell which.
type Line struct {
	Backup *Header `json:"backup,omitempty"`

	// A commit.
	Revision int64           `json:"revision,omitempty"` // a head's too
	Stream   events.Stream   `json:"stream,omitempty"`
	ID       events.ID       `json:"id,omitzero"`
	Commit   json.RawMessage `json:"commit,omitempty"`

	// A stream's head.
	Head    events.Stream `json:"head,omitempty"`
	Commits int64         `json:"commits,omitempty"`

	// A guard.
	Key   string          `json:"key,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`

	End *End `json:"end,omitempty"`
}

// kind is what a line is, in the order in which they come.
type kind int

const (
	isNothing kind = iota
	isHeader
	isCommit
	isHead
	isGuard
	isEnd
)

func (l *Line) kind() kind {
	switch {
	case l.Backup != nil:
		return isHeader
	case len(l.Commit) > 0:
		return isCommit
	case l.Head != "":
		return isHead
	case l.Key != "":
		return isGuard
	case l.End != nil:
		return isEnd
	}
	return isNothing
}

// decode reads a line. What a line of this format does not have is refused: leaving it
// out would be to lose it.
func decode(text []byte) (Line, error) {
	var l Line
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return Line{}, errors.Wrap(err, "read a line")
	}
	if dec.InputOffset() != int64(len(text)) {
		return Line{}, errors.New("there is more than one value in a line")
	}
	return l, nil
}

// formatOf reads the format of a first line, of whatever else that consists.
func formatOf(text []byte) (int, bool) {
	var l struct {
		Backup *struct {
			Format int `json:"format"`
		} `json:"backup"`
	}
	if err := json.Unmarshal(text, &l); err != nil || l.Backup == nil {
		return 0, false
	}
	return l.Backup.Format, true
}

// Lines are put together by hand where they hold what stands in the store: a JSON
// library would write it its own way.

func appendCommit(line []byte, c etcdlog.RawCommit) ([]byte, error) {
	if err := fits(string(c.Stream), c.Value); err != nil {
		return nil, errors.Wrapf(err, "back up commit %s of stream %s (revision %d)", c.ID, c.Stream, c.Revision)
	}
	line = append(line, `{"revision":`...)
	line = strconv.AppendInt(line, c.Revision, 10)
	line = append(line, `,"stream":`...)
	line, err := appendText(line, string(c.Stream))
	if err != nil {
		return nil, errors.Wrap(err, "write the name of a stream")
	}
	line = append(line, `,"id":"`...)
	line = append(line, c.ID.String()...)
	line = append(line, `","commit":`...)
	line = append(line, c.Value...)
	return append(line, '}'), nil
}

func appendGuard(line []byte, g etcdlog.RawGuard) ([]byte, error) {
	if err := fits(g.Key, g.Value); err != nil {
		return nil, errors.Wrapf(err, "back up %s", g.Key)
	}
	line = append(line, `{"key":`...)
	line, err := appendText(line, g.Key)
	if err != nil {
		return nil, errors.Wrap(err, "write a key")
	}
	line = append(line, `,"value":`...)
	line = append(line, g.Value...)
	return append(line, '}'), nil
}

func appendText(line []byte, text string) ([]byte, error) {
	quoted, err := json.Marshal(text)
	return append(line, quoted...), err
}

// fits says whether a key and its value can be in a line as they are.
func fits(key string, value []byte) error {
	if !utf8.ValidString(key) || !json.Valid(value) || bytes.IndexByte(value, '\n') >= 0 {
		return errors.New("it was not written by ipamlog, being no JSON of one line: see what `ipamlog verify` says")
	}
	return nil
}
