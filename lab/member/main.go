// SPDX-License-Identifier: Apache-2.0

// Command member is one member of a lab's etcd cluster: the etcd that ipamlog
// is built with, as a process of its own, with the defaults its operators get.
package main

import (
	"flag"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/server/v3/embed"
)

func main() {
	cfg := embed.NewConfig()
	flag.StringVar(&cfg.Name, "name", "", "of the member")
	flag.StringVar(&cfg.Dir, "dir", "", "of its data")
	flag.StringVar(&cfg.InitialCluster, "cluster", "", "all members, as etcd's --initial-cluster")
	address := flag.String("address", "", "IP address on which to serve clients and the other members")
	flag.Parse()
	if err := run(cfg, *address); err != nil {
		fmt.Fprintf(os.Stderr, "member: %v\n", err)
		os.Exit(1)
	}
}

// run serves until it is told to stop.
func run(cfg *embed.Config, address string) error {
	told := make(chan os.Signal, 1)
	signal.Notify(told, os.Interrupt, syscall.SIGTERM)

	at, err := netip.ParseAddr(address)
	if err != nil {
		return errors.Wrap(err, "read the address")
	}
	serves := func(port uint16) []url.URL {
		return []url.URL{{Scheme: "http", Host: netip.AddrPortFrom(at, port).String()}}
	}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = serves(2379), serves(2379)
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = serves(2380), serves(2380)
	cfg.LogLevel = "warn"

	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		return errors.Wrap(err, "start etcd")
	}
	defer etcd.Close()
	select {
	case <-told:
		return nil
	case err := <-etcd.Err():
		return errors.Wrap(err, "serve")
	}
}
