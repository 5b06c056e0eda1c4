// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/lab"
)

func TestRelay(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.Host("h")
	heard := echo(t, l)
	r, err := h.Relay(net.JoinHostPort(l.Addr().String(), "7777"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	dial := func() *bufio.ReadWriter {
		t.Helper()
		c, err := h.Dial(t.Context(), "tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		return bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c))
	}
	say := func(c *bufio.ReadWriter, line string) (string, error) {
		t.Helper()
		fmt.Fprintln(c, line)
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		if got := <-heard; got != line+"\n" {
			t.Fatalf("%q arrived, want %q", got, line)
		}
		return c.ReadString('\n')
	}

	c := dial()
	if got, err := say(c, "one"); err != nil || got != "one\n" {
		t.Fatalf("got %q, %v", got, err)
	}
	r.LoseAnswer("two", 10*time.Millisecond)
	if got, err := say(c, "other"); err != nil || got != "other\n" {
		t.Fatalf("got %q, %v", got, err)
	}
	// It arrives, and its answer does not.
	if got, err := say(c, "two"); err == nil || got != "" {
		t.Fatalf("got %q, %v; the answer was to be lost", got, err)
	}
	if r.Lost() != 1 {
		t.Errorf("%d answers were lost, want 1", r.Lost())
	}
	c = dial()
	if got, err := say(c, "two"); err != nil || got != "two\n" {
		t.Fatalf("got %q, %v; one answer alone was to be lost", got, err)
	}
	r.Stall(10 * time.Millisecond)
	if got, err := say(c, "three"); err != nil || got != "three\n" {
		t.Fatalf("got %q, %v", got, err)
	}
	r.Reset()
	if got, err := c.ReadString('\n'); err == nil {
		t.Fatalf("got %q over a connection that was reset", got)
	}
}

// echo answers each line that hosts send to port 7777 with the line, and tells of it
// before.
func echo(t *testing.T, l *lab.Lab) <-chan string {
	t.Helper()
	ln, err := l.Listen("tcp", net.JoinHostPort(l.Addr().String(), "7777"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	heard := make(chan string, 16)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				lines := bufio.NewReader(c)
				for {
					line, err := lines.ReadString('\n')
					if err != nil {
						return
					}
					heard <- line
					if _, err := io.WriteString(c, line); err != nil {
						return
					}
				}
			}()
		}
	}()
	return heard
}
