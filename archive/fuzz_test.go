// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

var begun = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// sample is a segment of so many commits, the same in every run.
func sample(tb testing.TB, commits int) segment {
	tb.Helper()
	part := etcdlog.Stretch{Running: begun.Add(time.Hour)}
	for n := range commits {
		id := events.ID{0: 1, 15: byte(n), 14: byte(n >> 8)}
		value, err := events.Encode(events.Commit{ID: id, Stream: "catalogue", Time: begun, Host: "host-1", Writer: "v1", Incarnation: 1})
		if err != nil {
			tb.Fatal(err)
		}
		part.Commits = append(part.Commits, etcdlog.RawCommit{Revision: int64(10 + n), Stream: "catalogue", ID: id, Value: value})
		part.Times = append(part.Times, begun)
	}
	made, err := seal("ipamlog/x", events.ID{1}, 7, &Tree{}, 1, part)
	if err != nil {
		tb.Fatal(err)
	}
	return made
}

// lines is what a file holds, one by one.
func lines(tb testing.TB, content []byte) [][]byte {
	tb.Helper()
	r, err := zstd.NewReader(bytes.NewReader(content))
	if err != nil {
		tb.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		tb.Fatal(err)
	}
	return bytes.SplitAfter(text, []byte("\n"))
}

// packed is a file that holds what is written into it.
func packed(tb testing.TB, window int, write func(io.Writer)) []byte {
	tb.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window))
	if err != nil {
		tb.Fatal(err)
	}
	write(w)
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// FuzzLine: what is read as a commit is written as it was read.
func FuzzLine(f *testing.F) {
	for _, line := range lines(f, sample(f, 3).content) {
		f.Add(bytes.TrimSuffix(line, []byte("\n")))
	}
	for _, c := range []string{"not JSON", " 1", "1 ", "1\n2", "", "null", `{"a":"<&>"}`} {
		line, err := encodeLine(etcdlog.RawCommit{Revision: 7, Stream: "s", Value: []byte(c)})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := decodeLine(text)
		if err != nil {
			if !errors.Is(err, events.ErrMalformed) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if again, err := encodeLine(c); err != nil || !bytes.Equal(again, text) {
			t.Errorf("%q is written as %q: %v", text, again, err)
		}
	})
}

// FuzzUnpack: whatever stands in a file, it is read or refused, and what proves itself
// has as many commits as it says.
func FuzzUnpack(f *testing.F) {
	for _, n := range []int{1, 2, 300} {
		made := sample(f, n)
		f.Add(made.content)
		f.Add(made.content[:len(made.content)/2])
	}
	f.Add(packed(f, 1<<20, func(w io.Writer) { _, _ = io.WriteString(w, "{}\n") }))
	f.Add(packed(f, 1<<20, func(w io.Writer) { _, _ = io.WriteString(w, `{"segment":"ipamlog 1","commits":-1}`+"\n") }))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		h, err := prove(content, nil)
		if err != nil {
			return
		}
		n := int64(0)
		if err := unpack(content, func(head) error { return nil }, func([]byte, etcdlog.RawCommit) error { n++; return nil }); err != nil || n != h.Commits {
			t.Errorf("it proves itself, and has %d of %d commits: %v", n, h.Commits, err)
		}
	})
}

// signer is a key that is the same in every run.
func signer(tb testing.TB) (note.Signer, Keys) {
	tb.Helper()
	seed := bytes.Repeat([]byte{7}, ed25519.SeedSize)
	key := ed25519.NewKeyFromSeed(seed)
	public, err := note.NewEd25519VerifierKey("ipamlog/x", key.Public().(ed25519.PublicKey))
	if err != nil {
		tb.Fatal(err)
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := note.NewSigner(fmt.Sprintf("PRIVATE+KEY+ipamlog/x+%08x+%s", verifier.KeyHash(), base64.StdEncoding.EncodeToString(append([]byte{1}, seed...))))
	if err != nil {
		tb.Fatal(err)
	}
	keys, err := ParseKeys(public)
	if err != nil {
		tb.Fatal(err)
	}
	return s, keys
}

// FuzzCheckpoint: nothing is taken for signed but what was signed, byte for byte.
func FuzzCheckpoint(f *testing.F) {
	key, keys := signer(f)
	signed, err := sample(f, 3).checkpoint().sign(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add(append(bytes.Clone(signed), '\n'))
	f.Add(bytes.ReplaceAll(signed, []byte("sha256"), []byte("sha512")))
	for _, text := range []string{"a\n", "ipamlog/x\n-1\nAAAA\nsegment\n", "ipamlog/x\n01\n" + tlog.Hash{}.String() + "\nsegment x sha256 " + strings.Repeat("0", 64) + "\n"} {
		other, err := note.Sign(&note.Note{Text: text}, key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(other)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if c, err := openCheckpoint(text, keys); err == nil && !bytes.Equal(text, signed) {
			t.Errorf("%q is taken for the checkpoint %+v", text, c)
		}
	})
}

// FuzzParseKeys: a public key is one, or it is refused.
func FuzzParseKeys(f *testing.F) {
	_, keys := signer(f)
	if keys.Origin != "ipamlog/x" {
		f.Fatal(keys.Origin)
	}
	f.Add("ipamlog/x+00000000+AQ==", "")
	f.Add("", "a+b+c")
	f.Add("\n", "x")
	f.Fuzz(func(t *testing.T, a, b string) {
		if keys, err := ParseKeys(a, b); err == nil && (keys.Origin == "" || !IsKey(a) || !IsKey(b)) {
			t.Errorf("%q and %q are taken for keys of %q", a, b, keys.Origin)
		}
	})
}

// FuzzOpenPlace: a place's name names the same one again.
func FuzzOpenPlace(f *testing.F) {
	for _, name := range []string{"/srv/archive", "/", "//", "s3://logs", "s3://logs/", "s3://logs/a/b/", "s3://logs//a", "s3://", "x", "gs://a", "s3://logs/../x", "/a/../b"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		place, err := OpenPlace(name)
		if err != nil {
			return
		}
		again, err := OpenPlace(place.String())
		if err != nil || again.String() != place.String() {
			t.Errorf("%q is the place %q, which is %v: %v", name, place, again, err)
		}
	})
}

// allocated is how many bytes a task asks for in all.
func allocated(task func()) uint64 {
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	task()
	runtime.ReadMemStats(&now)
	return now.TotalAlloc - before.TotalAlloc
}

// A small file that makes a large one is refused before it has filled the memory.
func TestProve_bomb(t *testing.T) {
	made := sample(t, 300)
	text := lines(t, made.content)
	zeros := make([]byte, 1<<20)
	noise := make([]byte, 1<<20)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = 'a' + byte(random.IntN(26))
	}
	for name, bomb := range map[string]struct {
		window int
		write  func(io.Writer)
	}{
		"one line": {8 << 20, func(w io.Writer) {
			_, _ = w.Write(text[0])
			for range 64 {
				_, _ = w.Write(zeros)
			}
		}},
		"no end of the head": {8 << 20, func(w io.Writer) {
			for range 64 {
				_, _ = w.Write(zeros)
			}
		}},
		"the same commits again": {8 << 20, func(w io.Writer) {
			_, _ = w.Write(text[0])
			for range 1000 {
				_, _ = w.Write(bytes.Join(text[1:], nil))
			}
		}},
		"a wide window": {128 << 20, func(w io.Writer) {
			for range 140 {
				_, _ = w.Write(noise)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			content := packed(t, bomb.window, bomb.write)
			var err error
			took := allocated(func() { _, err = prove(content, nil) })
			if err == nil || took > 128<<20 {
				t.Errorf("it took %d MB to read %d kB: %v", took>>20, len(content)>>10, err)
			}
			t.Logf("%d kB, %d MB: %v", len(content)>>10, took>>20, err)
		})
	}
}
