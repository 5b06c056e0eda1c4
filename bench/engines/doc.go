// SPDX-License-Identifier: Apache-2.0

// Command engines measures what a user of Docker notices of ipamlog: containers started
// and removed, and networks connected and disconnected, a second, beside the driver that
// is built into Docker.
//
// There are three hosts with real engines (package lab): one whose network has Docker's
// own driver, one with ipamlog and its embedded etcd, one with ipamlog on an etcd cluster
// of three members. All have the same bridge network but for that. They take turns, round
// by round, since a machine's speed drifts; what counts is the ratio within a round.
//
// Work is asked of the engine's API, as the docker command does: that command itself
// takes longer to start than many of the things it asks for. A turn of the first kind is
// `docker run -d` and `docker rm -f`, one of the second `docker network connect` and
// `docker network disconnect` on a container that runs.
//
// All hosts, and the members of the cluster, share one machine.
//
//	go run ./bench/engines           # as root, under 4 minutes
//	go run ./bench/engines --short   # under a minute
package main
