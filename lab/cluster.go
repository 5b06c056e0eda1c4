// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
)

// Cluster is an etcd of several members.
type Cluster struct {
	Members []*Member

	lab *Lab
}

// Member is an etcd on a host of its own, which has no engine. Its data is on
// the host's disk, with every write made durable. [Host.Unplug] cuts it off.
type Member struct{ Service }

// StartCluster adds n hosts to the lab, named etcd1 and on, with a member of one
// cluster on each, and returns once the cluster serves. All hosts of the lab
// reach it.
func (l *Lab) StartCluster(n int) *Cluster {
	l.t.Helper()
	c := &Cluster{lab: l}
	for i := range n {
		m := new(Member)
		m.Host = l.Host(fmt.Sprintf("etcd%d", i+1))
		m.command = func() (*exec.Cmd, error) { return c.member(m.Host) }
		m.ready = func() bool { return m.ask("/health", nil) == nil }
		c.Members = append(c.Members, m)
	}
	if err := c.Start(); err != nil {
		l.t.Fatal(err)
	}
	return c
}

// Start starts all members that do not run, and returns once they serve. One
// alone, whose cluster has no majority without it, can only be started so.
func (c *Cluster) Start() error {
	return errors.Join(inParallel(c.Members, func(m *Member) error {
		if m.Runs() {
			return nil
		}
		return m.Start()
	})...)
}

// Endpoints are the URLs of all members, for clients on hosts of the lab.
func (c *Cluster) Endpoints() []string {
	var all []string
	for _, m := range c.Members {
		all = append(all, m.Endpoint())
	}
	return all
}

// Leader waits for a member that leads a majority, and returns it: never one
// that is cut off and does not know it yet.
func (c *Cluster) Leader() (*Member, error) {
	var leader *Member
	err := poll(c.lab.ctx, startLimit, func() bool {
		for _, m := range c.Members {
			if m.leads() {
				leader = m
			}
		}
		return leader != nil
	})
	return leader, errors.Wrap(err, "wait for the cluster to have a leader")
}

// Endpoint is the member's URL, for clients on hosts of the lab.
func (m *Member) Endpoint() string { return fmt.Sprintf("http://%v:2379", m.Host.Addr()) }

func (c *Cluster) member(h *Host) (*exec.Cmd, error) {
	binary, err := program(module + "/lab/member")
	if err != nil {
		return nil, err
	}
	var all []string
	for _, m := range c.Members {
		all = append(all, fmt.Sprintf("%s=http://%v:2380", m.Host.name, m.Host.Addr()))
	}
	return exec.Command(binary, "--name", h.name, "--address", h.Addr().String(),
		"--dir", filepath.Join(h.dir, "etcd"), "--cluster", strings.Join(all, ",")), nil
}

// leads asks the member whether it leads, and has it prove that by a majority.
func (m *Member) leads() bool {
	var status struct {
		Header struct {
			Self string `json:"member_id"`
		}
		Leader string
	}
	return m.Runs() && m.ask("/v3/maintenance/status", &status) == nil &&
		status.Leader == status.Header.Self && m.ask("/health", nil) == nil
}

// ask asks the member on its own host, where it answers even when it is cut off.
func (m *Member) ask(path string, answer any) error {
	client := &http.Client{
		Timeout:   time.Second, // of a member that cannot get a majority
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: m.Host.Dial},
	}
	url := m.Endpoint() + path
	var r *http.Response
	var err error
	if answer == nil {
		r, err = client.Get(url)
	} else {
		r, err = client.Post(url, "application/json", strings.NewReader("{}"))
	}
	if err != nil {
		return errors.Wrap(err, "ask an etcd")
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return errors.Newf("%s answered %s", url, r.Status)
	}
	if answer == nil {
		_, err = io.Copy(io.Discard, r.Body)
		return errors.Wrap(err, "read an etcd's answer")
	}
	return errors.Wrap(json.NewDecoder(r.Body).Decode(answer), "read an etcd's answer")
}
