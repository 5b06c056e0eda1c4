// SPDX-License-Identifier: Apache-2.0

// Command shell gives a person a lab: hosts with an engine and a daemon each, a
// cluster of three etcd members, a router, and a shell on the first host. All of
// it is gone when the shell ends, or this program, however that happens.
//
// On the hosts it has two other names. As `on` it runs a command on another
// host; as `lab` it cuts hosts off, kills what runs on them and starts it again.
// Both hand their words, and their terminal, to the shell's own process, which
// alone can enter the hosts (see control.go).
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/lab"
)

func main() {
	if name := filepath.Base(os.Args[0]); name == nameOn || name == nameLab {
		os.Exit(ask(name, os.Args[1:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	hosts, err := wantedHosts()
	if err != nil {
		fmt.Fprintf(os.Stderr, "lab: %v\n", err)
		os.Exit(2)
	}
	os.Exit(lab.Visit("lab", func(v *lab.Visitor) int {
		p := build(ctx, v, hosts)
		return p.shell(ctx, v)
	}))
}

// wantedHosts is how many hosts are to have an engine.
func wantedHosts() (int, error) {
	text := os.Getenv("LAB_HOSTS")
	if text == "" {
		return 3, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 50 {
		return 0, errors.Newf("LAB_HOSTS is %q: make it a number of hosts from 1 to 50", text)
	}
	return n, nil
}
