// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/lab"
)

// fleet is several hosts that share a cluster of several members.
type fleet struct {
	cluster *lab.Cluster
	sites   []*site
}

// startFleet starts a cluster of three members, and three hosts with daemon and
// engine on it.
func startFleet(t *testing.T) *fleet {
	t.Helper()
	l := lab.New(t)
	f := &fleet{cluster: l.StartCluster(3)}
	store := []string{"--cluster-store", strings.Join(f.cluster.Endpoints(), ",")}
	var hosts []*lab.Host
	for _, name := range []string{"a", "b", "c"} {
		s := newSite(t, l, name, store...)
		s.start(t)
		f.sites = append(f.sites, s)
		hosts = append(hosts, s.Host)
	}
	lab.StartEngines(t, hosts...)
	return f
}

// onEach does something on all hosts at the same time.
func (f *fleet) onEach(t *testing.T, do func(*site) error) {
	t.Helper()
	var running sync.WaitGroup
	for _, s := range f.sites {
		running.Go(func() {
			if err := do(s); err != nil {
				t.Errorf("host %s: %v", s.Name(), err)
			}
		})
	}
	running.Wait()
}

// startMany starts containers on all hosts, a few at a time, until something
// that begins among them has ended, and returns what docker said of those that
// did not come up.
func (f *fleet) startMany(t *testing.T, network string, meanwhile func()) (started int, refused []error) {
	t.Helper()
	const atOnce, atLeast = 2, 2
	ended := make(chan error)
	over := make(chan struct{})
	var users sync.WaitGroup
	for _, s := range f.sites {
		for i := range atOnce {
			users.Go(func() {
				for j := 0; ; j++ {
					name := fmt.Sprintf("%s-%d-%d", strings.ReplaceAll(t.Name(), "/", "-"), i, j)
					_, err := s.Docker("run", "-d", "--name", name, "--network", network, lab.Image)
					ended <- errors.Wrapf(err, "host %s", s.Name())
					select {
					case <-over:
						if j+1 >= atLeast {
							return
						}
					default:
					}
				}
			})
		}
	}
	go func() {
		users.Wait()
		close(ended)
	}()
	for err := range ended {
		if started+len(refused) == len(f.sites) { // now all are at it
			go func() {
				defer close(over)
				meanwhile()
			}()
		}
		if err == nil {
			started++
		} else {
			refused = append(refused, err)
		}
	}
	return started, refused
}

// explained fails the test unless each refusal tells the user what to do.
func explained(t *testing.T, refused []error) {
	t.Helper()
	for _, err := range refused {
		t.Log(err)
		if !strings.Contains(err.Error(), "check that etcd is up and has a leader, then try again") {
			t.Errorf("a refusal does not say what to do: %v", err)
		}
	}
}

// TestFleet shares a pool without a name between three hosts, on a cluster that
// loses its members one way after the other.
func TestFleet(t *testing.T) {
	t.Parallel()
	began := time.Now()
	f := startFleet(t)
	t.Logf("all is up after %v", time.Since(began))
	count := 0 // of containers that came up

	// goes checks that nothing is double and all hosts say so, and that a
	// container comes up on each.
	goes := func(t *testing.T) {
		t.Helper()
		f.onEach(t, func(s *site) error {
			_, err := s.Docker("run", "-d", "--network", "shared", lab.Image)
			return err
		})
		count += len(f.sites)
		used := agree(t, f.sites...)
		if want := len(f.sites) + count; len(used) != want {
			t.Errorf("%d addresses are in use, want %d", len(used), want)
		}
		taken := map[fact]bool{}
		for _, u := range used {
			if taken[u.place()] {
				t.Errorf("%v is in use twice", u.Address)
			}
			taken[u.place()] = true
		}
	}
	// through starts containers while something happens, on all hosts.
	through := func(t *testing.T, what func() error) (refused []error) {
		t.Helper()
		began := time.Now()
		started, refused := f.startMany(t, "shared", func() {
			if err := what(); err != nil {
				t.Error(err)
			}
		})
		count += started
		t.Logf("%d containers came up and %d were refused, in %v", started, len(refused), time.Since(began))
		return refused
	}

	t.Run("all join at once", func(t *testing.T) {
		f.onEach(t, func(s *site) error {
			_, err := s.Docker("network", "create", "--ipam-driver", driver, "--subnet", "10.50.0.0/20", "shared")
			return err
		})
		goes(t)
	})
	t.Run("a member is killed", func(t *testing.T) {
		member := f.follower(t)
		explained(t, through(t, member.Kill))
		goes(t)
		if err := member.Start(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("the leader is killed", func(t *testing.T) {
		leader := f.leader(t)
		explained(t, through(t, leader.Kill))
		goes(t)
		if err := leader.Start(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("the leader is cut off", func(t *testing.T) {
		leader := f.leader(t)
		explained(t, through(t, func() error {
			if err := leader.Host.Unplug(); err != nil {
				return err
			}
			_, err := f.cluster.Leader() // another
			return err
		}))
		goes(t)
		if err := leader.Host.Plug(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("no majority", func(t *testing.T) {
		explained(t, through(t, func() error {
			for _, m := range f.cluster.Members[:2] {
				if err := m.Kill(); err != nil {
					return err
				}
			}
			_, err := f.sites[0].Docker("run", "-d", "--network", "shared", lab.Image)
			if err == nil {
				return errors.New("a container came up without a store")
			}
			t.Log(err)
			return f.cluster.Start()
		}))
		goes(t)
	})
	t.Run("a daemon is killed", func(t *testing.T) {
		for _, err := range through(t, func() error {
			if err := f.sites[1].daemon.Kill(); err != nil {
				return err
			}
			return f.sites[1].daemon.Start()
		}) {
			if !strings.Contains(err.Error(), "host b") {
				t.Errorf("another's daemon was killed: %v", err)
			}
			t.Log(err) // the engine's own words: nobody else was there to say something
		}
		sound(t, f.sites...)
	})
	t.Run("all leave", func(t *testing.T) {
		for _, s := range f.sites {
			s.removeAll(t)
			// The engine may still be ending the endpoint of a start that failed.
			await(t, "the engine to let go of the network", func() (bool, error) {
				_, err := s.Docker("network", "rm", "shared")
				return err == nil, nil
			})
		}
		if left := agree(t, f.sites...); len(left) > 0 {
			t.Errorf("all is removed, and still in use are %+v", left)
		}
	})
}

func (f *fleet) leader(t *testing.T) *lab.Member {
	t.Helper()
	m, err := f.cluster.Leader()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// follower is a member that does not lead.
func (f *fleet) follower(t *testing.T) *lab.Member {
	t.Helper()
	leader := f.leader(t)
	for _, m := range f.cluster.Members {
		if m != leader {
			return m
		}
	}
	t.Fatal("the cluster has one member")
	return nil
}
