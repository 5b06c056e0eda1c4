// SPDX-License-Identifier: Apache-2.0

// Package lab is the laboratory of the tests: real Docker engines, several on
// one machine, each as if it ran on a host of its own.
//
// A [Lab] is one shared layer 2: a bridge in a network namespace. A [Host] is
// plugged into it by a veth pair and has its own network, mount, UTS, IPC and
// PID namespaces, thus its own name and machine id, its own processes, its own
// /run (so its own /run/docker/plugins and /run/docker.sock), its own /etc (a
// copy of the machine's) and its own, empty, /var/lib. On it runs containerd and, on top of that, dockerd, as Debian's packages start
// them: two processes, so that a dockerd that is killed leaves its containers
// running, as it does in real life.
//
//	l := lab.New(t)
//	a, b := l.Host("a"), l.Host("b")
//	lab.StartEngines(t, a, b)
//	a.MustDocker(t, "network", "create", "--subnet", "10.1.0.0/24", "n")
//	a.MustDocker(t, "run", "-d", "--name", "c1", "--network", "n", lab.Image)
//	...
//	a.KillEngine() // or StopEngine, or Reboot: the power cord
//	lab.StartEngines(t, a)
//
// A [Daemon] is ipamlog on a host; a [Cluster] is an etcd of several members,
// each on a host of its own; a router is [Lab.Router]. Each can be killed,
// stopped, paused and started again (see [Service]), and cut off ([Host.Unplug]). A
// [Relay] stands between a host and a member, and loses answers.
//
//	c := l.StartCluster(3)
//	d := a.Daemon("--cluster-store", strings.Join(c.Endpoints(), ","))
//	err := d.Start()
//
// The program lab/shell, which is make lab, gives a person a shell in all that.
//
// # Nothing survives the test
//
// No namespace, mount or link of a lab has a name outside it. They exist as
// long as the first process of each host does, and that process ends when the
// test's end of a pipe closes: on cleanup, and just as well on a panic, on the
// timeout of go test, or on kill -9. What the kernel does not clear by itself,
// a directory below [os.TempDir] and some empty cgroups, goes on cleanup, or
// when the next lab on the machine starts. So do the programs that are built for
// hosts, with [RemovePrograms].
//
// # Needs
//
// Root, the Debian packages docker.io, containerd, runc, iproute2, iptables
// and busybox-static, and no image registry: the one [Image] is made here.
// [New] fails the test when something is missing.
package lab
