// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"io"

	"github.com/cockroachdb/errors"
	"github.com/klauspost/compress/zstd"

	"github.com/ipamlog/ipamlog/events/etcdlog"
)

const (
	// maxLine is how long a line may be: several times what etcd takes as a value.
	maxLine = 16 << 20
	// maxMemory is what unpacking may take.
	maxMemory = 256 << 20
)

var (
	// ErrNoBackup is returned for a file that is no backup at all.
	ErrNoBackup = errors.New("this is no backup of ipamlog")
	// ErrDamaged is returned for a backup that is not whole.
	ErrDamaged = errors.New("the backup is damaged")
	// ErrNewer is returned for a backup that this program is too old for.
	ErrNewer = errors.New("the backup is of a newer version")
)

// Read reads a backup and gives take each commit, head and guard in it, in their
// order; take may be nil. What take was given is good only once Read has returned
// without an error: that the file is whole is known at its end. It returns
// [ErrNoBackup], [ErrDamaged], [ErrNewer], or what take did.
func Read(r io.Reader, take func(Line) error) (Summary, error) {
	unpacked, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxMemory))
	if err != nil {
		return Summary{}, errors.Wrap(err, "unpack the backup")
	}
	defer unpacked.Close()
	lines := bufio.NewScanner(unpacked)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	f := &form{take: take}
	sum := sha256.New()
	for lines.Scan() {
		if f.end != nil {
			return Summary{}, f.damaged("something follows its end")
		}
		f.at++
		before := sum.Sum(nil)
		sum.Write(lines.Bytes())
		sum.Write([]byte{'\n'})
		if err := f.line(lines.Bytes(), before); err != nil {
			return Summary{}, err
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, zstd.ErrMagicMismatch) && f.at == 0:
		return Summary{}, noBackup("it is not packed with zstd")
	case err != nil:
		return Summary{}, f.damaged(err.Error())
	case f.at == 0:
		return Summary{}, noBackup("it is empty")
	case f.end == nil:
		return Summary{}, f.damaged("it is cut off there")
	}
	return Summary{*f.header, *f.end}, nil
}

func noBackup(why string) error {
	return errors.Mark(errors.Newf("this is no backup of ipamlog (%s): name another file", why), ErrNoBackup)
}

// form is what a file must look like, line by line.
type form struct {
	take   func(Line) error
	at     int // lines so far
	was    kind
	last   int64 // the revision of the last commit
	count  End
	header *Header
	end    *End
}

func (f *form) damaged(what string) error {
	return errors.Mark(errors.Newf("the backup is damaged (after line %d: %s): restore another copy of it", f.at, what), ErrDamaged)
}

// line looks at the next line. sum is that of the lines before it.
func (f *form) line(text []byte, sum []byte) error {
	l, err := decode(text)
	is := l.kind()
	if f.at == 1 {
		if format, ok := formatOf(text); ok && format > Format {
			return errors.Mark(errors.Newf("the backup is in format %d, this program reads up to %d: upgrade it", format, Format), ErrNewer)
		}
		if err != nil || is != isHeader || l.Backup.Revision < 1 || l.Backup.Store.ID.IsZero() {
			return noBackup("it does not begin as one")
		}
		if l.Backup.Store.Format > etcdlog.Format {
			return errors.Mark(errors.Newf("the backup is of a store in format %d, this program reads up to %d: upgrade it", l.Backup.Store.Format, etcdlog.Format), ErrNewer)
		}
		f.header, f.was = l.Backup, is
		return nil
	}
	switch {
	case err != nil:
		return f.damaged(err.Error())
	case is < f.was || is <= isHeader:
		return f.damaged("a line is out of place")
	}
	f.was = is
	switch is {
	case isCommit:
		f.count.Commits++
		if l.Revision <= f.last || l.Revision > f.header.Revision || l.ID.IsZero() {
			return f.damaged("a commit is out of place")
		}
		f.last = l.Revision
	case isHead:
		f.count.Heads++
	case isGuard:
		f.count.Guards++
	case isEnd:
		f.end, f.count.SHA256 = l.End, hex.EncodeToString(sum)
		if *f.end != f.count {
			return f.damaged("its end tells of something else")
		}
		return nil
	}
	if f.take == nil {
		return nil
	}
	return f.take(l)
}
