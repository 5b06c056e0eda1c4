// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/operator"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
)

// The exit statuses there are.
const (
	ExitDone     = 0
	ExitFailed   = 1
	ExitUsage    = 2
	ExitNotFound = 3
)

// ErrUsage marks an error about how a command was called.
var ErrUsage = errors.New("wrong usage")

// Usagef returns an error about how a command was called.
func Usagef(format string, args ...any) error {
	return errors.Mark(errors.Newf(format, args...), ErrUsage)
}

// ExitStatus is the status with which a command ends that returned this error.
func ExitStatus(err error) int {
	switch {
	case err == nil:
		return ExitDone
	case errors.IsAny(err, replay.ErrNotFound, operator.ErrNotFound):
		return ExitNotFound
	case errors.IsAny(err, ErrUsage, replay.ErrAmbiguous, replay.ErrNotYet, operator.ErrAmbiguous, operator.ErrInvalid):
		return ExitUsage
	}
	return ExitFailed
}

// sentence is an error on one line, with what to do about it where the error
// itself cannot know.
func sentence(err error) string {
	text := render.Line(strings.Join(strings.Fields(err.Error()), " "))
	for _, a := range advice {
		if errors.Is(err, a.about) {
			return text + ": " + a.todo
		}
	}
	return text
}

var advice = []struct {
	about error
	todo  string
}{
	{etcdlog.ErrOtherMachine, "give this machine another name with --host, or accept it as that host with `ipamlog adopt --host NAME`"},
	{etcdlog.ErrHostAlive, "stop that daemon first, or use another --host"},
	{etcdlog.ErrOtherStore, "name the right store with --cluster-store and --prefix, or accept this one with `ipamlog adopt --store`"},
	{etcdlog.ErrRejected, "check the etcd user's permissions"},
}

// warn tells of something odd that stops nothing.
func warn(w io.Writer, format string, args ...any) {
	fmt.Fprintln(w, "ipamlog: warning: "+render.Line(fmt.Sprintf(format, args...)))
}
