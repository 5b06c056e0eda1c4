// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/ipamlog/ipamlog/lab"
)

// TestRestarts stops the daemon properly, and is kind to Docker meanwhile.
func TestRestarts(t *testing.T) {
	t.Parallel()
	a := startSite(t, lab.New(t), "a")
	a.create(t, "n", "--subnet", "10.50.0.0/24")
	a.run(t, "before", "n")

	t.Run("a stopped daemon leaves no socket", func(t *testing.T) {
		a.stop(t)
		if left, err := os.ReadDir(a.PluginDir()); err != nil || len(left) > 0 {
			t.Errorf("left behind are %v (%v)", left, err)
		}
		a.start(t)
		agree(t, a)
	})
	for name, end := range map[string]func(*testing.T){"stopped": a.stop, "killed": a.kill} {
		t.Run("docker run waits for a daemon that was "+name, func(t *testing.T) {
			end(t)
			from := a.logSize(t, "dockerd")
			var running sync.WaitGroup
			defer running.Wait()
			running.Go(func() {
				if _, err := a.Docker("run", "-d", "--name", "during-"+name, "--network", "n", lab.Image); err != nil {
					t.Error(err)
				}
			})
			a.saidInLog(t, "dockerd", "Unable to connect to plugin", from)
			a.start(t)
			running.Wait()
			agree(t, a)
		})
	}
	t.Run("docker stop waits for a daemon that was stopped", func(t *testing.T) {
		a.stop(t)
		from := a.logSize(t, "dockerd")
		var running sync.WaitGroup
		defer running.Wait()
		running.Go(func() {
			if _, err := a.Docker("stop", "before"); err != nil {
				t.Error(err)
			}
		})
		a.saidInLog(t, "dockerd", "Unable to connect to plugin", from)
		a.start(t)
		running.Wait()
		agree(t, a)
	})
	t.Run("stopped among fifty docker runs", func(t *testing.T) {
		const runs = 50
		var running sync.WaitGroup
		defer running.Wait()
		ended := make(chan struct{}, runs)
		var mu sync.Mutex
		refused := 0
		for i := range runs {
			running.Go(func() {
				_, err := a.Docker("run", "-d", "--name", fmt.Sprintf("among%d", i), "--network", "n", lab.Image)
				ended <- struct{}{}
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					refused++
					t.Log(err)
				}
			})
		}
		for range 4 {
			for range 8 {
				<-ended
			}
			a.stop(t)
			a.start(t)
		}
		running.Wait()
		t.Logf("%d of %d were refused", refused, runs)
		if used := agree(t, a); len(used) < runs-refused {
			t.Errorf("%d runs went well, and only %d addresses are in use", runs-refused, len(used))
		}
	})
}

// TestEngineKilled ends the engine, not the daemon, as kill -9 does.
func TestEngineKilled(t *testing.T) {
	t.Parallel()
	a := startSite(t, lab.New(t), "a")
	a.create(t, "n", "--subnet", "10.50.0.0/24")
	a.run(t, "plain", "n")
	a.run(t, "named", "n", "--ip", "10.50.0.50")
	a.run(t, "always", "n", "--restart", "always")
	agree(t, a)

	killEngine := func(t *testing.T, options ...string) {
		t.Helper()
		if err := a.KillEngine(); err != nil {
			t.Fatal(err)
		}
		if err := a.StartEngine(options...); err != nil {
			t.Fatal(err)
		}
		await(t, "the container that always restarts", func() (bool, error) {
			c, err := a.Container("always")
			return c.State.Running, err
		})
	}
	t.Run("its containers end", func(t *testing.T) {
		killEngine(t)
		reportLost(t, sound(t, a))
		a.MustDocker(t, "start", "plain", "named")
		reportLost(t, sound(t, a))
	})
	t.Run("its containers live on", func(t *testing.T) {
		before := usedSoundly(t, a)
		killEngine(t, "--live-restore")
		killEngine(t, "--live-restore")
		if d := diff(before, usedSoundly(t, a)); d != "" {
			t.Errorf("what is in use (-before +after):\n%s", d)
		}
	})
	t.Run("while many start", func(t *testing.T) {
		var running sync.WaitGroup
		defer running.Wait()
		first := make(chan struct{}, 20)
		for i := range 20 {
			running.Go(func() {
				_, err := a.Docker("run", "-d", "--name", fmt.Sprintf("many%d", i), "--network", "n", lab.Image)
				if err != nil {
					t.Log(err)
				}
				first <- struct{}{}
			})
		}
		<-first
		if err := a.KillEngine(); err != nil {
			t.Fatal(err)
		}
		running.Wait()
		if err := a.StartEngine(); err != nil {
			t.Fatal(err)
		}
		reportLost(t, sound(t, a))
	})
	t.Run("nothing is left at the end", func(t *testing.T) {
		a.removeAll(t)
		a.MustDocker(t, "network", "rm", "n")
		if left := agree(t, a); len(left) > 0 {
			t.Errorf("all is removed, and still in use are %+v", left)
		}
	})
}

// usedSoundly is what is in use, checked by [sound].
func usedSoundly(t *testing.T, a *site) []fact {
	t.Helper()
	t.Helper()
	reportLost(t, sound(t, a))
	used, _ := a.dockerSays(t)
	return used
}

// TestReboot pulls the power cord: engine, daemon and containers end at once.
func TestReboot(t *testing.T) {
	t.Parallel()
	a := startSite(t, lab.New(t), "a")
	a.create(t, "n", "--subnet", "10.50.0.0/24")
	for i := range 3 {
		a.run(t, fmt.Sprintf("c%d", i), "n")
	}
	agree(t, a)
	if err := a.Reboot(); err != nil {
		t.Fatal(err)
	}
	a.start(t)
	lab.StartEngines(t, a.Host)
	reportLost(t, sound(t, a))
	for i := range 3 {
		a.MustDocker(t, "start", fmt.Sprintf("c%d", i))
	}
	reportLost(t, sound(t, a))
}
