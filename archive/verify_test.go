// SPDX-License-Identifier: Apache-2.0

package archive_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/ipamlog/ipamlog/archive"
)

func readFile(t *testing.T, p archive.Place, name string) ([]byte, error) {
	t.Helper()
	f, err := p.Get(t.Context(), name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// offline verifies with nothing but the files and the public key.
func (b *bed) offline(t *testing.T, kept ...archive.Checkpoint) *archive.Report {
	t.Helper()
	report, err := archive.Verify(context.WithoutCancel(t.Context()), b.place(t), b.keys(t), kept, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// A byte that was changed anywhere in an archive is found, and its file named.
func TestVerify_anyByte(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1_500)
	b.run(t, 1400)
	b.verify(t, nil)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for _, name := range b.names(t) {
		content := b.read(t, name)
		positions := slices.Concat(r.Perm(len(content))[:40], []int{0, 1, 2, 3, 4, 5, 6, len(content) - 1, len(content) - 2, len(content) - 4})
		for _, at := range positions {
			spoilt := bytes.Clone(content)
			spoilt[at] ^= byte(1 + r.IntN(255))
			b.write(t, name, spoilt)
			if report := b.offline(t); !named(report.Findings, name) {
				t.Errorf("byte %d of %s was changed, and nobody says so: %s", at, name, sentences(report.Findings))
			}
		}
		b.write(t, name, content)
	}
	b.verify(t, nil)
}

func repack(t *testing.T, content []byte, change func([][]byte) [][]byte) []byte {
	t.Helper()
	r, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := r.DecodeAll(content, nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(bytes.Join(change(bytes.SplitAfter(text, []byte("\n"))), nil), nil)
}

// Who can write files, but does not have the key, can change, remove or insert nothing.
func TestVerify_forged(t *testing.T) {
	t.Parallel()
	b := newBed(t, 4_000)
	b.run(t, 3500)
	segments, err := b.log.Segments(t.Context())
	if err != nil || len(segments) < 3 {
		t.Fatalf("%d segments: %v", len(segments), err)
	}
	victim := segments[1].File
	checkpoint := strings.TrimSuffix(victim, ".jsonl.zst") + ".checkpoint"
	content, signed := b.read(t, victim), b.read(t, checkpoint)
	for name, change := range map[string]func([][]byte) [][]byte{
		"a commit changed": func(l [][]byte) [][]byte {
			l[300] = bytes.Replace(l[300], []byte(`"host":"host-`), []byte(`"host":"host_`), 1)
			return l
		},
		"a commit removed":  func(l [][]byte) [][]byte { return slices.Delete(l, 300, 301) },
		"a commit inserted": func(l [][]byte) [][]byte { return slices.Insert(l, 300, l[299]) },
		"the last removed":  func(l [][]byte) [][]byte { return slices.Delete(l, len(l)-2, len(l)-1) },
		"two swapped":       func(l [][]byte) [][]byte { l[300], l[301] = l[301], l[300]; return l },
		"none":              func(l [][]byte) [][]byte { return l[:1] },
		"the head": func(l [][]byte) [][]byte {
			l[0] = bytes.Replace(l[0], []byte(`"from":"2026`), []byte(`"from":"2025`), 1)
			return l
		},
		"a space": func(l [][]byte) [][]byte { l[5] = append([]byte(" "), l[5]...); return l },
	} {
		t.Run(name, func(t *testing.T) {
			b.write(t, victim, repack(t, content, change))
			if report := b.offline(t); !named(report.Findings, victim) {
				t.Errorf("nobody says so: %s", sentences(report.Findings))
			} else {
				t.Log(sentences(report.Findings))
			}
			b.write(t, victim, content)
		})
	}
	for name, spoil := range map[string]func(t *testing.T) string{
		"a segment removed": func(t *testing.T) string {
			b.write(t, victim, nil)
			b.write(t, checkpoint, nil)
			return segments[2].File
		},
		"its file removed":       func(t *testing.T) string { b.write(t, victim, nil); return victim },
		"its checkpoint removed": func(t *testing.T) string { b.write(t, checkpoint, nil); return checkpoint },
		"another's checkpoint": func(t *testing.T) string {
			b.write(t, checkpoint, b.read(t, strings.TrimSuffix(segments[0].File, ".jsonl.zst")+".checkpoint"))
			return checkpoint
		},
		"a file inserted": func(t *testing.T) string { b.write(t, "segment-x.jsonl.zst", content); return "segment-x.jsonl.zst" },
	} {
		t.Run(name, func(t *testing.T) {
			wrong := spoil(t)
			if report := b.offline(t); !named(report.Findings, wrong) {
				t.Errorf("nobody says so: %s", sentences(report.Findings))
			} else {
				t.Log(sentences(report.Findings))
			}
			b.write(t, "segment-x.jsonl.zst", nil)
			b.write(t, victim, content)
			b.write(t, checkpoint, signed)
		})
	}
	b.verify(t, segments)
}

// Segments that are missing at the end are missed by who has kept a checkpoint, and by
// the store.
func TestVerify_truncated(t *testing.T) {
	t.Parallel()
	b := newBed(t, 4_000)
	b.run(t, 3500)
	segments, err := b.log.Segments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last := segments[len(segments)-1].File
	checkpoint := strings.TrimSuffix(last, ".jsonl.zst") + ".checkpoint"
	kept, err := archive.ReadCheckpoint(b.read(t, checkpoint), b.keys(t))
	if err != nil {
		t.Fatal(err)
	}
	if report := b.offline(t, kept); len(report.Findings) > 0 {
		t.Errorf("%s", sentences(report.Findings))
	}
	b.write(t, last, nil)
	b.write(t, checkpoint, nil)
	if report := b.offline(t, kept); !named(report.Findings, last) {
		t.Errorf("who has the checkpoint does not miss it: %s", sentences(report.Findings))
	}
	report, err := archive.Verify(t.Context(), b.place(t), b.keys(t), nil, segments, nil)
	if err != nil || !named(report.Findings, last) {
		t.Errorf("the store does not miss it: %v %+v", err, report)
	}
}

// A key that is not the archive's proves nothing.
func TestVerify_otherKey(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1_000)
	b.run(t, 900)
	other, err := archive.LoadKey(t.TempDir()+"/key", archive.Origin(b.store, nil))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := archive.ParseKeys(other.Public)
	if err != nil {
		t.Fatal(err)
	}
	report, err := archive.Verify(t.Context(), b.place(t), keys, nil, nil, nil)
	if err != nil || len(report.Findings) == 0 {
		t.Errorf("%v %+v", err, report)
	}
}
