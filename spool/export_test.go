// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"os"
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/events"
)

// Break makes the next line fail to be written, as a full disk does.
func (s *Spool) Break() {
	_ = s.file.Close()
	s.file, _ = os.Open(s.path(fileName))
}

// Aged makes the file tell that a release was set aside at another time.
func Aged(t *testing.T, dir string, release events.ID, since time.Time) {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.aside {
		if s.aside[i].ID == release {
			s.aside[i].Since = since
		}
	}
	if err := s.rewrite(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
