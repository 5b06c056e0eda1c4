// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/cockroachdb/errors"
	"golang.org/x/sys/unix"
)

// The names under which this program is a command on the hosts.
const (
	nameOn  = "on"
	nameLab = "lab"
)

// wish is what `on` and `lab` ask of the shell's process. Before it on the
// socket go one byte and the three standard files.
type wish struct {
	Name string // on or lab
	Args []string
}

// result is the answer.
type result struct {
	Status int
	Error  string
}

// ask is this program as `on` or `lab`: it has its wish fulfilled, and returns
// the exit status. When it is killed, what was begun for it ends.
func ask(name string, args []string) int {
	r, err := askShell(wish{name, args})
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: the lab does not answer, run this in its shell: %v\n", name, err)
		return 1
	}
	if r.Error != "" {
		fmt.Fprintf(os.Stderr, "%s: %s\n", name, r.Error)
	}
	return r.Status
}

func askShell(w wish) (r result, err error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: os.Getenv("LAB_SOCKET")})
	if err != nil {
		return r, errors.Wrap(err, "reach the lab")
	}
	defer c.Close()
	if _, _, err := c.WriteMsgUnix([]byte{0}, unix.UnixRights(0, 1, 2), nil); err != nil {
		return r, errors.Wrap(err, "hand over the terminal")
	}
	if err := json.NewEncoder(c).Encode(w); err != nil {
		return r, errors.Wrap(err, "say what is wanted")
	}
	return r, errors.Wrap(json.NewDecoder(c).Decode(&r), "read the answer")
}

// serve fulfils wishes until the listener is closed.
func (p *place) serve(ln *net.UnixListener) {
	for {
		c, err := ln.AcceptUnix()
		if err != nil {
			return // closed: the visit is over
		}
		go func() {
			defer c.Close()
			r := p.fulfil(c)
			//nolint:errchkjson // it is written in vain where whoever asked has gone
			_ = json.NewEncoder(c).Encode(r)
		}()
	}
}

func (p *place) fulfil(c *net.UnixConn) result {
	files, err := receiveFiles(c)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return result{1, err.Error()}
	}
	var w wish
	if err := json.NewDecoder(c).Decode(&w); err != nil {
		return result{1, "the wish cannot be read: " + err.Error()}
	}
	if w.Name == nameLab {
		if err := p.change(files[1], w.Args); err != nil {
			return result{1, err.Error()}
		}
		return result{}
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, c) // nothing comes until the other end closes
	}()
	return p.on(gone, files, w.Args)
}

// receiveFiles takes over the standard files of who asks.
func receiveFiles(c *net.UnixConn) ([]*os.File, error) {
	rights := make([]byte, unix.CmsgSpace(3*4))
	_, n, _, _, err := c.ReadMsgUnix(make([]byte, 1), rights)
	if err != nil {
		return nil, errors.Wrap(err, "take over the terminal")
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		return nil, errors.Newf("take over the terminal: no files came (%v)", err)
	}
	numbers, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, errors.Wrap(err, "take over the terminal")
	}
	var files []*os.File
	for _, n := range numbers {
		unix.CloseOnExec(n)
		files = append(files, os.NewFile(uintptr(n), "standard file"))
	}
	if len(files) != 3 {
		return files, errors.Newf("take over the terminal: %d files came, want 3", len(files))
	}
	return files, nil
}

// change is the command `lab`.
func (p *place) change(out io.Writer, args []string) error {
	const usage = "write lab kill|start|cut|plug HOST, or lab alone to see the hosts"
	if len(args) == 0 {
		_, err := io.WriteString(out, p.describe())
		return errors.Wrap(err, "describe the lab")
	}
	if len(args) != 2 {
		return errors.New(usage)
	}
	h, err := p.find(args[1])
	if err != nil {
		return err
	}
	switch args[0] {
	case "cut":
		return h.Unplug()
	case "plug":
		return h.Plug()
	case "kill", "start":
		if h.runs == nil {
			return errors.Newf("nothing runs on %s: name another host", args[1])
		}
		if args[0] == "kill" {
			return h.runs.Kill()
		}
		return h.runs.Start()
	default:
		return errors.New(usage)
	}
}
