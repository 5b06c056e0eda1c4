// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/csv"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/lab"
)

var stepsFlag = flag.Int("steps", 50, "how much happens to containers in each round of their past")

// past is a host whose containers come and go, and the truth about them.
type past struct {
	*site
	api      *http.Client
	observer *observer
	seed     uint64
	quiet    []quiet
}

// quiet is a time at which no container ran, or nobody could look.
type quiet struct{ from, to time.Time }

// listen is where the daemon's API is on its host.
const listen = "127.0.0.1:9477"

func newPast(t *testing.T, l *lab.Lab, store ...string) *past {
	t.Helper()
	p := &past{site: newSite(t, l, "a", store...), seed: uint64(time.Now().UnixNano())}
	t.Logf("seed %d", p.seed)
	p.daemon = p.Daemon(slices.Concat([]string{"--data-dir", p.dataDir(), "--listen", listen, "--reconcile-every", "1s", "--reconcile-grace", "10s"}, store)...)
	p.start(t)
	lab.StartEngines(t, p.Host)
	p.api = &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: p.Dial}}
	t.Cleanup(p.api.CloseIdleConnections)
	// Small, so that addresses are used again and again.
	p.create(t, "n1", "--subnet", "10.50.0.0/27", "--ipam-opt", "quarantine=0", "--ipam-opt", "pick=lowest", "--ipv6", "--subnet", "fd50::/64")
	p.create(t, "n2", "--subnet", "10.51.0.0/27", "--ipam-opt", "quarantine=0")
	p.observer = observe(t, p.Host)
	return p
}

// live has containers start, stop, restart, die, be renamed and share names, so
// many steps in all; refusals are the business of others.
func (p *past) live(round, steps int) {
	var mu sync.Mutex
	more := func() bool {
		mu.Lock()
		defer mu.Unlock()
		steps--
		return steps >= 0
	}
	const workers = 3
	var working sync.WaitGroup
	for w := range workers {
		working.Go(func() {
			r := rand.New(rand.NewPCG(p.seed, uint64(100*round+w)))
			names := []string{fmt.Sprintf("w%d-a", w), fmt.Sprintf("w%d-b", w), fmt.Sprintf("w%d-c", w)}
			for more() {
				p.step(r, names)
			}
		})
	}
	working.Wait()
}

// clear removes all containers, waits until the log says that they have no address, and
// notes that nobody held anything. Nothing may be in trouble any more.
func (p *past) clear(t *testing.T) {
	t.Helper()
	await(t, "the engine to be there", func() (bool, error) {
		_, err := p.Docker("ps")
		return err == nil, nil
	})
	if left, err := p.Containers(); err != nil || len(left) > 0 {
		p.removeAll(t)
	}
	// An engine that was killed may have lost a release: that is found out first.
	await(t, "the log to say that no container has an address", func() (bool, error) {
		for _, subnet := range []string{"10.50.0.0/27", "fd50::/64", "10.51.0.0/27"} {
			o := p.ipamlog(t, "holders", subnet, "-o", "json")
			if o.status != 0 || slices.ContainsFunc(decode[[]holding](t, o.stdout), func(h holding) bool { return h.Kind == "endpoint" }) {
				return false, nil
			}
		}
		return true, nil
	})
	q := quiet{from: time.Now()}
	_, err := p.Docker("ps", "-aq") // some time goes by
	if err != nil {
		t.Fatal(err)
	}
	q.to = time.Now()
	p.quiet = append(p.quiet, q)
}

// step is something that happens to the containers of a worker.
func (p *past) step(r *rand.Rand, names []string) {
	i := r.IntN(len(names))
	name, other := names[i], names[(i+1+r.IntN(len(names)-1))%len(names)]
	switch r.IntN(12) {
	case 0, 1, 2, 3:
		_, _ = p.Docker("rm", "-f", name)
		_, _ = p.Docker("run", "-d", "--name", name, "--network", "n1", "--label", "com.docker.compose.service="+name, "--label", "secret=x", lab.Image)
	case 4, 5:
		_, _ = p.Docker("rm", "-f", name)
		_, _ = p.Docker("run", "--rm", "--name", name, "--network", "n1", lab.Image, "sleep", "0.2")
	case 6:
		_, _ = p.Docker("stop", "-t", "0", name)
	case 7:
		_, _ = p.Docker("start", name)
	case 8:
		_, _ = p.Docker("restart", "-t", "0", name)
	case 9:
		_, _ = p.Docker("kill", name)
	case 10:
		_, _ = p.Docker("rename", name, name+"-x")
		_, _ = p.Docker("rename", other, name)
		_, _ = p.Docker("rename", name+"-x", other)
	case 11:
		_, _ = p.Docker("network", "connect", "n2", name)
		_, _ = p.Docker("network", "disconnect", "n2", other)
	}
}

// question is an address and a moment, and the truth.
type question struct {
	address netip.Addr
	at      time.Time
	truth   *certainty // nil: nobody
}

func (q question) String() string { return fmt.Sprintf("%s at %s", q.address, micro(q.at)) }

// micro is a moment as precise as the log.
func micro(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z07:00") }

// questions are so many, evenly over all that is known.
func (p *past) questions(n int) []question {
	r := rand.New(rand.NewPCG(p.seed, 1))
	certain := p.observer.certainties(func(s *stay) bool { return s.network == "n1" })
	byStay := map[*stay][]certainty{}
	for _, c := range certain {
		byStay[c.stay] = append(byStay[c.stay], c)
	}
	stays := slices.SortedFunc(maps.Keys(byStay), func(a, b *stay) int { return a.sights[0].from.Compare(b.sights[0].from) })
	var all []question
	for i := range n {
		if i%10 == 0 && len(p.quiet) > 0 {
			q := p.quiet[r.IntN(len(p.quiet))]
			address := netip.AddrFrom4([4]byte{10, 50, 0, byte(2 + r.IntN(29))})
			all = append(all, question{address, q.from.Add(time.Duration(r.Int64N(int64(q.to.Sub(q.from))))), nil})
			continue
		}
		// Every stay, however short, as often as any other.
		known := byStay[stays[i%len(stays)]]
		c := known[r.IntN(len(known))]
		within := int64(c.to.Sub(c.from))
		all = append(all, question{c.addresses[r.IntN(len(c.addresses))], c.from.Add(time.Duration(r.Int64N(within))), &c})
	}
	return all
}

// answer is what ipamlog says of a question, as its ways of asking give it.
type answer struct {
	holders int
	// Of the one endpoint, if there is one.
	container, name, image, imageID, network string
}

// verdict compares an answer with the truth. unknown says that it is not wrong, but
// lacks the container.
func (q question) verdict(a answer) (wrong string, unknown bool) {
	switch {
	case q.truth == nil && a.holders == 0:
		return "", false
	case q.truth == nil:
		return "nobody held it", false
	case a.holders != 1:
		return fmt.Sprintf("one held it, and %d are named", a.holders), false
	case a.container == "":
		return "", true
	}
	for _, f := range []struct{ what, is, said string }{
		{"container", q.truth.container, a.container},
		{"name", q.truth.name, a.name},
		{"image", q.truth.image, a.image},
		{"image id", q.truth.imageID, a.imageID},
		{"network", q.truth.network, a.network},
	} {
		if f.is != "" && f.said != "" && f.is != f.said {
			return fmt.Sprintf("the %s was %s", f.what, f.is), false
		}
	}
	if a.name == "" && q.truth.name != "" || a.image == "" || a.network == "" {
		return "", true
	}
	return "", false
}

// said is the answer of who and of the API.
type said struct {
	Holdings []struct {
		Kind      string
		Container *struct {
			ID      string
			Name    *string
			Image   *string
			ImageID *string `json:"image_id"`
			Labels  map[string]string
		}
		Network *struct{ Name *string }
	}
}

func (s said) answer() answer {
	a := answer{holders: len(s.Holdings)}
	for _, h := range s.Holdings {
		if h.Container != nil {
			a.container, a.name, a.image, a.imageID = h.Container.ID, deref(h.Container.Name), deref(h.Container.Image), deref(h.Container.ImageID)
		}
		if h.Network != nil {
			a.network = deref(h.Network.Name)
		}
	}
	return a
}

// byCommand asks with one process a question.
func (p *past) byCommand(t *testing.T, q question) answer {
	t.Helper()
	o := p.ipamlog(t, "who", q.address.String(), "--at", micro(q.at), "-o", "json")
	if o.status != 0 && o.status != 3 {
		t.Fatalf("who %v: status %d: %s", q, o.status, o.stderr)
	}
	return decode[said](t, o.stdout).answer()
}

// byAPI asks the daemon.
func (p *past) byAPI(t *testing.T, q question) answer {
	t.Helper()
	r, err := p.api.Get("http://" + listen + "/api/v1/who?" + url.Values{"address": {q.address.String()}, "at": {micro(q.at)}}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	text := string(body)
	if r.StatusCode != http.StatusOK && r.StatusCode != http.StatusNotFound {
		t.Fatalf("the API answered %s to %v: %s", r.Status, q, text)
	}
	return decode[said](t, text).answer()
}

// byEnrich asks all at once, in no order.
func (p *past) byEnrich(t *testing.T, all []question) []answer {
	t.Helper()
	file := filepath.Join(p.Dir(), "firewall.csv")
	var text strings.Builder
	text.WriteString("when,src,n\n")
	for i, q := range all {
		fmt.Fprintf(&text, "%s,%s,%d\n", micro(q.at), q.address, i)
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	o := p.ipamlog(t, "enrich", file, "--time", "when", "--ip", "src")
	if o.status != 0 {
		t.Fatalf("enrich: status %d: %s", o.status, o.stderr)
	}
	rows, err := csv.NewReader(strings.NewReader(o.stdout)).ReadAll()
	if err != nil || len(rows) != len(all)+1 {
		t.Fatalf("enrich gave %d lines of %d: %v", len(rows), len(all)+1, err)
	}
	column := map[string]int{}
	for i, name := range rows[0] {
		column[name] = i
	}
	answers := make([]answer, 0, len(all))
	for i, row := range rows[1:] {
		cell := func(name string) string {
			at, ok := column[name]
			if !ok {
				t.Fatalf("enrich has no column %s: %q", name, rows[0])
			}
			return row[at]
		}
		if cell("n") != fmt.Sprint(i) {
			t.Fatalf("line %d is line %s", i, cell("n"))
		}
		a := answer{container: cell("src_container_id"), name: cell("src_container"), image: cell("src_image"), network: cell("src_network")}
		if _, err := fmt.Sscan(cell("src_holders"), &a.holders); err != nil {
			t.Fatalf("src_holders is %q", cell("src_holders"))
		}
		answers = append(answers, a)
	}
	return answers
}

// tally counts what became of the answers, and keeps the worst.
type tally struct {
	asked, wrong int
	unknown      map[*stay]answer // the last one, of each
}

func (y *tally) count(t *testing.T, p *past, by string, q question, a answer) {
	t.Helper()
	y.asked++
	wrong, unknown := q.verdict(a)
	if wrong != "" {
		y.wrong++
		if y.wrong <= 10 {
			t.Errorf("%s, %v: %s; it says %+v", by, q, wrong, a)
			t.Logf("who says: %+v\nand the API: %+v", p.byCommand(t, q), p.byAPI(t, q))
			for line := range strings.SplitSeq(p.ipamlog(t, "tail", "-o", "jsonl").stdout, "\n") {
				if strings.Contains(line, `"`+q.address.String()+`"`) {
					t.Log(line)
				}
			}
		}
	}
	if unknown {
		if y.unknown == nil {
			y.unknown = map[*stay]answer{}
		}
		y.unknown[q.truth.stay] = a
	}
}

// interrogate asks thousands of questions in every way. It returns the stays of
// which the container, its image, its network or a name that was certain is not
// known.
func (p *past) interrogate(t *testing.T) map[*stay]answer {
	t.Helper()
	p.observer.end()
	all := p.questions(5000)
	var y tally
	for i, a := range p.byEnrich(t, all) {
		y.count(t, p, "enrich", all[i], a)
	}
	for i, q := range all {
		if i%4 == 0 {
			y.count(t, p, "the API", q, p.byAPI(t, q))
		}
		if i%50 == 0 {
			y.count(t, p, "who", q, p.byCommand(t, q))
		}
	}
	t.Logf("%d stays were seen; of %d answers %d were wrong, and %d stays are unknown", len(p.observer.runs), y.asked, y.wrong, len(y.unknown))
	if len(p.observer.runs) == 0 || y.asked < 6000 {
		t.Errorf("too little was asked")
	}
	return y.unknown
}

// TestPast compares what ipamlog says of any moment with what an observer saw.
func TestPast(t *testing.T) {
	t.Parallel()
	p := newPast(t, lab.New(t))
	for round := range 3 {
		p.live(round, *stepsFlag)
		p.clear(t)
	}
	p.settled(t)
	for s, a := range p.interrogate(t) {
		if s.lasted() {
			t.Errorf("not all is known of %v: %+v", s, a)
		}
	}
	if o := p.ipamlog(t, "verify"); o.status != 0 {
		t.Errorf("verify: %s%s", o.stdout, o.stderr)
	}
}

// settled waits until everything that is held is told whose it is.
func (p *past) settled(t *testing.T) {
	t.Helper()
	await(t, "the last attribution", func() (bool, error) {
		type exported struct {
			Kind          string
			To, Container any
		}
		for _, h := range ask[[]exported](t, p.site, "export") {
			if h.Kind == "endpoint" && h.To == nil && h.Container == nil {
				return false, nil
			}
		}
		return true, nil
	})
}

// TestPastInTrouble is the same while the daemon is killed, the engine is killed,
// and etcd is away.
func TestPastInTrouble(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	cluster := l.StartCluster(1)
	p := newPast(t, l, "--cluster-store", strings.Join(cluster.Endpoints(), ","))
	trouble := []struct {
		name       string
		begin, end func() error
	}{
		{"the daemon is killed", p.daemon.Kill, p.daemon.Start},
		{"etcd is away", cluster.Members[0].Pause, cluster.Members[0].Continue},
		{"the engine is killed", p.KillEngine, func() error { return p.StartEngine() }},
	}
	var blind []quiet
	for round, what := range trouble {
		var living sync.WaitGroup
		living.Go(func() { p.live(round, *stepsFlag) })
		for range 2 {
			p.amidst(t)
			// What has just begun may end before it is certain again whose it is.
			from := time.Now().Add(-time.Second)
			if err := what.begin(); err != nil {
				t.Errorf("%s: %v", what.name, err)
			}
			p.amidst(t)
			if err := what.end(); err != nil {
				t.Errorf("after %s: %v", what.name, err)
			}
			blind = append(blind, quiet{from, time.Now()})
		}
		living.Wait()
		p.clear(t)
	}
	for s, a := range p.interrogate(t) {
		if s.lasted() && !slices.ContainsFunc(blind, func(q quiet) bool {
			return q.from.Before(s.sights[0].from) && s.sights[0].from.Before(q.to)
		}) {
			t.Errorf("not all is known of %v: %+v", s, a)
		}
	}
}

// amidst lets containers live for a while.
func (p *past) amidst(t *testing.T) {
	t.Helper()
	timer := time.NewTimer(2 * time.Second)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}
