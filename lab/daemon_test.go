// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/lab"
)

// greet asks the daemon of a host, as its engine does, what it is.
func greet(h *lab.Host) error {
	client := &http.Client{
		Timeout: time.Second,
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(h.PluginDir(), "ipamlog.sock"))
		}},
	}
	r, err := client.Post("http://plugin/Plugin.Activate", "", nil)
	if err != nil {
		return errors.Wrap(err, "ask the daemon")
	}
	defer r.Body.Close()
	if text, err := io.ReadAll(r.Body); err != nil || !strings.Contains(string(text), "IpamDriver") {
		return errors.Newf("it says %s (%v)", text, err)
	}
	return nil
}

// TestDaemon takes a daemon through its life, on a host without an engine.
func TestDaemon(t *testing.T) {
	t.Parallel()
	h := lab.New(t).Host("a")
	d := h.Daemon()
	began := time.Now()
	must(t, d.Start())
	t.Logf("the daemon started in %v", time.Since(began))
	must(t, greet(h))
	if err := d.Start(); err == nil {
		t.Error("it was started twice")
	}

	must(t, d.Pause())
	if err := greet(h); err == nil {
		t.Error("it is paused, and answers")
	}
	must(t, d.Continue())
	must(t, greet(h))

	for name, end := range map[string]func() error{"killed": d.Kill, "stopped": d.Stop, "without power": h.Reboot} {
		must(t, end())
		if d.Runs() {
			t.Errorf("it was %s, and runs on", name)
		}
		if err := greet(h); err == nil {
			t.Errorf("it was %s, and answers", name)
		}
		if err := d.Kill(); err == nil {
			t.Errorf("it was %s, and killed once more", name)
		}
		must(t, d.Start())
		must(t, greet(h))
	}
}
