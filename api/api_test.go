// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/ipamlog/ipamlog/api"
	"github.com/ipamlog/ipamlog/cli"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/index"
	"github.com/ipamlog/ipamlog/replay/replaytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const prefix = "/ipamlog/v1/"

// told is a store that knows a night and a morning.
func told(t testing.TB) (*replaytest.Store, *replaytest.Teller) {
	t.Helper()
	store := replaytest.Start(t)
	teller := store.Tell(t, prefix)
	teller.Night()
	teller.Morning()
	return store, teller
}

func source(store *replaytest.Store) api.Source {
	log := etcdlog.New(store.Client, prefix)
	return api.Source{Log: log, Past: index.Open(log, replaytest.ID('S', 1), prefix)}
}

// past answers as a test wants.
type past func(context.Context) (*replay.History, error)

func (p past) History(ctx context.Context, _ func(int)) (*replay.History, error) { return p(ctx) }

func (p past) Ask(ctx context.Context, _ func(int), question func(*replay.History) error) error {
	h, err := p(ctx)
	if err != nil {
		return err
	}
	return question(h)
}

// local is who may ask without showing anything.
var local = api.Access{Local: true}

func server(store *replaytest.Store, o api.Options) *api.Server {
	o.Version = api.VersionOf("v1.2.3", "0123abc")
	s := api.NewServer(o)
	if store != nil {
		s.Attach(source(store))
	}
	return s
}

// get asks as a local client does.
func get(h http.Handler, target string, header ...string) *httptest.ResponseRecorder {
	return do(h, http.MethodGet, target, header...)
}

func do(h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, http.NoBody)
	r.Host = "127.0.0.1:9477"
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// command runs what a person would, and returns what it prints.
func command(t *testing.T, store *replaytest.Store, args ...string) (string, int) {
	t.Helper()
	var out, warnings bytes.Buffer
	root := cli.New(cli.Build{Version: "v1.2.3", Commit: "0123abc"})
	status := cli.Run(t.Context(), root, append(args, "--data-dir", store.Dir), strings.NewReader(""), &out, &warnings)
	if status == cli.ExitFailed || status == cli.ExitUsage {
		t.Fatalf("%q: exit status %d: %s", args, status, warnings.String())
	}
	return out.String(), status
}

// Whatever the commands answer, the API answers, to the byte and in each format.
func TestServer_likeTheCommands(t *testing.T) {
	store, _ := told(t)
	s := server(store, api.Options{Access: local})
	const at, later = "2025-03-01T03:10:30Z", "2025-03-01T05:00:00Z"
	for _, test := range []struct {
		path string
		args []string
	}{
		{"pools", []string{"pools"}},
		{"holders?pool=web", []string{"holders", "web"}},
		{"holders?pool=web&at=" + at, []string{"holders", "web", "--at", at}},
		{"who?address=10.50.0.2&at=" + at, []string{"who", "10.50.0.2", "--at", at}},
		{"who?address=10.50.0.4&at=2025-03-01T03:25:00Z", []string{"who", "10.50.0.4", "--at", "2025-03-01T03:25:00Z"}},
		{"who?address=10.50.0.2&at=@36", []string{"who", "10.50.0.2", "--at", "@36"}},
		{"who?address=10.50.0.2&at=@36&pool=blue", []string{"who", "10.50.0.2", "--at", "@36", "--pool", "blue"}},
		{"history?subject=10.50.0.2", []string{"history", "10.50.0.2"}},
		{"history?subject=web-1", []string{"history", "web-1"}},
		{"history?subject=host:h1&since=" + at + "&until=" + later, []string{"history", "host:h1", "--since", at, "--until", later}},
		{"diff?pool=web&from=" + at + "&to=" + later, []string{"diff", "web", at, later}},
		{"holders?pool=shop_default", []string{"holders", "shop_default"}},
		{"holders?pool=shop_default&at=" + at, []string{"holders", "shop_default", "--at", at}},
		{"holders?pool=web&at=2025-03-01T03:25:00Z", []string{"holders", "web", "--at", "2025-03-01T03:25:00Z"}},
		{"diff?pool=shop_default&from=@7&to=@35", []string{"diff", "shop_default", "@7", "@35"}},
		{"history?subject=10.50.0.2&until=2099-01-01", []string{"history", "10.50.0.2", "--until", "2099-01-01"}},
		{"diff?pool=web&from=@20&to=@21", []string{"diff", "web", "@20", "@21"}},
		{"events", []string{"tail"}},
		{"events?pool=web&since=@7", []string{"tail", "web", "--since", "@7"}},
		{"replay?at=" + at, []string{"replay", "--at", at}},
		{"replay?pool=blue", []string{"replay", "blue"}},
	} {
		for format, media := range map[string]string{"json": "application/json", "jsonl": "application/x-ndjson", "csv": "text/csv"} {
			t.Run(test.path+" "+format, func(t *testing.T) {
				want, status := command(t, store, append(test.args, "-o", format)...)
				if status != cli.ExitDone || strings.Count(want, "\n") == 0 && !strings.Contains(test.path, "@21") {
					t.Fatalf("the command has no answer: %d %s", status, want)
				}
				got := get(s, "/api/v1/"+test.path, "Accept", "text/html, "+media)
				if got.Code != http.StatusOK || !strings.HasPrefix(got.Header().Get("Content-Type"), media) {
					t.Fatalf("%d %s: %s", got.Code, got.Header().Get("Content-Type"), got.Body)
				}
				if diff := cmp.Diff(want, got.Body.String()); diff != "" {
					t.Errorf("(-command +API):\n%s", diff)
				}
				sep := "?"
				if strings.Contains(test.path, "?") {
					sep = "&"
				}
				if named := get(s, "/api/v1/"+test.path+sep+"format="+format, "Accept", "text/csv"); named.Body.String() != want {
					t.Errorf("with format=%s: %s", format, named.Body)
				}
			})
		}
	}
	if want, _ := command(t, store, "version", "-o", "json"); get(s, "/api/v1/version").Body.String() != want {
		t.Errorf("version: %s, want %s", get(s, "/api/v1/version").Body, want)
	}
}

func TestServer_nobody(t *testing.T) {
	store, _ := told(t)
	s := server(store, api.Options{Access: local})
	for _, target := range []string{"10.50.0.2", "10.50.0.99"} {
		text, status := command(t, store, "who", target, "--at", "2025-03-01T03:20:00Z", "-o", "json")
		if status != cli.ExitNotFound {
			t.Fatalf("exit status %d", status)
		}
		var want, got map[string]any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		w := get(s, "/api/v1/who?at=2025-03-01T03:20:00Z&address="+target)
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if w.Code != http.StatusNotFound || w.Header().Get("Content-Type") != "application/problem+json" || got["status"] != 404. ||
			!strings.HasPrefix(got["detail"].(string), "nobody held "+target+" at 2025-03-01T03:20:00.000000Z = @") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		maps.DeleteFunc(got, func(name string, _ any) bool {
			return name == "type" || name == "title" || name == "status" || name == "detail"
		})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-command +API):\n%s", diff)
		}
	}
}

func TestServer_headers(t *testing.T) {
	store, teller := told(t)
	teller.Raw(events.PoolStream(replaytest.Web), `{"v":1,"time":"2025-03-01T05:00:00Z","host":"h9","incarnation":1,"writer":"v9.0.0","events":[{"type":"address.\u001b[31mblessed"}]}`)
	now := time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)
	s := server(store, api.Options{Access: local, Now: func() time.Time { return now }})
	for _, test := range []struct{ target, name, want string }{
		{"who?address=10.50.0.2&at=04:11&zone=Europe/Berlin", "Ipamlog-At", "2025-03-01T03:11:00.000000Z"},
		{"who?address=10.50.0.2&at=03:11", "Ipamlog-Revision", "8"},
		{"history?subject=pool:web&since=@7&until=03:30", "Ipamlog-Since-Revision", "6"},
		{"history?subject=pool:web&since=@7&until=03:30", "Ipamlog-At", "2025-03-01T03:30:00.000000Z"},
		{"diff?pool=web&from=@7&to=@8", "Ipamlog-Since-Revision", "7"},
		{"who?address=10.50.0.2&at=@8", "Ipamlog-Warning", `1 events of type "address.\x1b[31mblessed" were written by a newer version, first at @`},
		{"who?address=10.50.0.4&at=03:25", "Ipamlog-Warning", "the clocks leave open whether this is the answer"},
		{"pools", "X-Content-Type-Options", "nosniff"},
		{"pools", "Cache-Control", "no-store"},
		{"nowhere", "Cache-Control", "no-store"},
	} {
		got := strings.Join(get(s, "/api/v1/"+test.target).Header().Values(test.name), "\n")
		if !strings.Contains(got, test.want) {
			t.Errorf("%s: %s is %q, want %q", test.target, test.name, got, test.want)
		}
	}
	if w := do(s, http.MethodGet, "/api/v1/pools", "Origin", "http://evil.example"); len(w.Header().Values("Access-Control-Allow-Origin")) > 0 {
		t.Error("pages from elsewhere may read answers")
	}
}

func TestServer_refused(t *testing.T) {
	store, _ := told(t)
	s := server(store, api.Options{Access: local, Now: func() time.Time { return time.Date(2025, 3, 30, 12, 0, 0, 0, time.UTC) }})
	for _, test := range []struct {
		method, target string
		status         int
		says           string
	}{
		{"GET", "who", 400, "address is missing: give it as ?address=VALUE"},
		{"GET", "who?address=web", 400, `"web" is not an address: write one such as 10.50.0.2 or fd00::2`},
		{"GET", "who?address=10.50.0.2&ip=1", 400, `there is no parameter "ip" here, only address, at, pool, zone, format`},
		{"GET", "version?x=1", 400, `there is no parameter "x" here, nor any other`},
		{"GET", "who?address=10.50.0.2&address=10.50.0.3", 400, "address is given 2 times: give it once"},
		{"GET", "who?address=10.50.0.2&at=", 400, "at is empty: give it a value, or leave it out"},
		{"GET", "who?address=%zz", 400, "the query is not NAME=VALUE"},
		{"GET", "who?address=10.50.0.2&at=banana", 400, "at: "},
		{"GET", "who?address=10.50.0.2&at=2025-03-01T03:12:00+01:00", 400, "(in a URL + is a space, and %2B is a plus)"},
		{"GET", "who?address=10.50.0.2&at=2099-01-01", 400, "still to come"},
		{"GET", "who?address=10.50.0.2&at=@99999", 400, "still to come"},
		{"GET", "events?since=2099-01-01", 400, "still to come"},
		{"GET", "events?since=@99999", 400, "still to come"},
		{"GET", "diff?pool=web&from=@3&to=@99999", 400, "still to come"},
		{"GET", "who?address=10.50.0.2&at=2025-03-30T02:30&zone=Europe/Berlin", 400, "02:30"},
		{"GET", "who?address=10.50.0.2&zone=../../etc/passwd", 400, "is no time zone: write one such as Europe/Berlin, or UTC"},
		{"GET", "pools?format=table", 400, `format: "table" is not a format here: choose json, jsonl or csv`},
		{"GET", "events?limit=0", 400, `limit: "0" is no number of events: write one from 1`},
		{"GET", "events?follow=perhaps", 400, `follow: "perhaps" is neither true nor false`},
		{"GET", "events?follow=1&until=@5", 400, "leave one of them out"},
		{"GET", "events?follow=1&format=json", 400, "choose format=jsonl"},
		{"GET", "history?subject=pool:web&since=@9&until=@3", 400, "since is later than until: exchange them"},
		{"GET", "diff?pool=web&from=@9&to=@3", 400, "from is later than to: exchange them"},
		{"GET", "pools?" + strings.Repeat("x", 3000), 400, "the query is longer than 2048 bytes"},
		{"GET", "holders?pool=10.50.0.0/24", 409, `"10.50.0.0/24" means 2 pools`},
		{"GET", "holders?pool=red", 404, `there is no pool "red"`},
		{"GET", "holders?pool=%1b[31m%0ared", 404, `there is no pool`},
		{"GET", "history?subject=nobody", 404, "the log knows no"},
		{"GET", "history?subject=host:h1&until=@1", 404, "host h1 held nothing in that time"},
		{"GET", "nowhere", 404, "there is nothing at this path: see /api/v1/openapi.yaml"},
		{"POST", "pools", 405, "questions are asked with GET: nothing can be changed here"},
		{"OPTIONS", "pools", 405, ""},
		{"DELETE", "nowhere", 404, ""},
	} {
		t.Run(test.method+" "+test.target[:min(len(test.target), 80)], func(t *testing.T) {
			w := do(s, test.method, "/api/v1/"+test.target)
			var p struct {
				Type, Title, Detail string
				Status              int
			}
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
				t.Fatalf("%v: %s", err, w.Body)
			}
			if w.Code != test.status || p.Status != test.status || !strings.Contains(p.Detail, test.says) || strings.ContainsAny(p.Detail, "\n\x1b") ||
				w.Header().Get("Content-Type") != "application/problem+json" || p.Title != http.StatusText(test.status) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if (w.Header().Get("Allow") == "GET, HEAD") != (test.status == http.StatusMethodNotAllowed) {
				t.Errorf("Allow: %q", w.Header().Get("Allow"))
			}
		})
	}
}

func TestServer_head(t *testing.T) {
	store, _ := told(t)
	web := httptest.NewServer(server(store, api.Options{Access: local}))
	defer web.Close()
	for _, target := range []string{"pools", "events?follow=true", "who?address=10.50.0.2&at=@8"} {
		resp, err := web.Client().Head(web.URL + "/api/v1/" + target)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", target, resp.Status)
		}
	}
}

// Who asks from behind the last event it saw gets nothing, until there is more.
func TestServer_resume(t *testing.T) {
	store, teller := told(t)
	s := server(store, api.Options{Access: local})
	last := teller.Commit(events.PoolStream(replaytest.Web), "h1", replaytest.Clock(200, 0), events.PoolExhausted{})
	for _, query := range []string{"", "pool=web&", "limit=3&", "until=2099-01-01&", "until=@99999&"} {
		target := fmt.Sprintf("/api/v1/events?%ssince=@%d", query, last.Revision+1)
		w := get(s, target)
		if w.Code != http.StatusOK || w.Body.Len() > 0 || w.Header().Get("Ipamlog-Since-Revision") != strconv.FormatInt(last.Revision, 10) {
			t.Errorf("%s: %d %v %s", target, w.Code, w.Header(), w.Body)
		}
	}
	for target, want := range map[string]string{
		"/api/v1/events?format=json&since=@%d":            "[]\n",
		"/api/v1/history?format=csv&subject=c1&since=@%d": "held nothing in that time",
	} {
		if w := get(s, fmt.Sprintf(target, last.Revision+1)); !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	web := httptest.NewServer(s)
	defer web.Close()
	resp, err := web.Client().Get(fmt.Sprintf("%s/api/v1/events?follow=true&limit=1&since=@%d", web.URL, last.Revision+1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	next := teller.Commit(events.PoolStream(replaytest.Web), "h1", replaytest.Clock(201, 0), events.PoolExhausted{})
	raw, err := io.ReadAll(resp.Body)
	if err != nil || strings.Count(string(raw), "\n") != 1 || !strings.HasPrefix(string(raw), fmt.Sprintf(`{"revision":%d,`, next.Revision)) {
		t.Errorf("%v: %s", err, raw)
	}
	if w := get(s, fmt.Sprintf("/api/v1/events?since=@%d", last.Revision+1)); w.Body.String() != string(raw) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := get(s, fmt.Sprintf("/api/v1/events?since=@%d", next.Revision+2)); w.Code != http.StatusBadRequest {
		t.Errorf("beyond the log: %d %s", w.Code, w.Body)
	}
}

func TestServer_limit(t *testing.T) {
	store, _ := told(t)
	s := server(store, api.Options{Access: local})
	all := get(s, "/api/v1/events?pool=web").Body.String()
	first := strings.Join(strings.SplitAfter(all, "\n")[:5], "")
	for _, target := range []string{"/api/v1/events?pool=web&limit=5", "/api/v1/events?pool=web&limit=5&follow=true"} {
		if got := get(s, target).Body.String(); got != first {
			t.Errorf("%s: %s", target, got)
		}
	}
}

// A log is followed past its end, through a pool that is made anew, until the
// client leaves.
func TestServer_follow(t *testing.T) {
	store, teller := told(t)
	s := server(store, api.Options{Access: local})
	web := httptest.NewServer(s)
	defer web.Close()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, web.URL+"/api/v1/events?pool=web&since=@8&follow=true", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := web.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	next := func() (e struct {
		Revision          int64
		Stream, Type, Why string
	},
	) {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("the answer ended: %v", lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	if e := next(); e.Revision != 8 {
		t.Fatalf("begins with %+v", e)
	}
	past := strings.Count(get(s, "/api/v1/events?pool=web&since=@8").Body.String(), "\n")
	for range past - 1 {
		next()
	}
	// Another web, in the other space; and what is none of it.
	again := replaytest.ID('P', 9)
	created := events.PoolCreated{Space: events.Global, Name: "web", Subnet: mustPrefix("10.99.0.0/24"), Policy: events.DefaultPolicy()}
	teller.Commit(events.PoolStream(replaytest.Blue), "h1", replaytest.Clock(200, 0), events.PoolExhausted{})
	want := teller.Commit(events.PoolStream(again), "h1", replaytest.Clock(201, 0), created)
	if e := next(); e.Revision != want.Revision || e.Type != "pool.created" || e.Stream != again.String() {
		t.Errorf("got %+v, want the new pool at %d", e, want.Revision)
	}
	want = teller.Commit(events.PoolStream(again), "h1", replaytest.Clock(202, 0), events.PoolExhausted{})
	if e := next(); e.Revision != want.Revision || e.Type != "pool.exhausted" {
		t.Errorf("got %+v", e)
	}
	if w := get(s, "/api/v1/events?limit=1"); w.Code != http.StatusOK {
		t.Errorf("who follows keeps others from reading: %d", w.Code)
	}
	leave()
	eventually(t, "the slots are given back", s.Idle)
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to be that %s", what)
		}
	}
}

func TestServer_busy(t *testing.T) {
	store, _ := told(t)
	s := server(store, api.Options{Access: local})
	leave := s.Occupy(time.Millisecond)
	if w := get(s, "/api/v1/pools"); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "5" || !strings.Contains(w.Body.String(), "ask again in a few seconds") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if w := get(s, "/api/v1/version"); w.Code != http.StatusOK {
		t.Errorf("version: %d", w.Code)
	}
	leave()
	if w := get(s, "/api/v1/pools"); w.Code != http.StatusOK {
		t.Errorf("afterwards: %d %s", w.Code, w.Body)
	}
	if !s.Idle() {
		t.Error("a slot was not given back")
	}
}

// asked counts as metrics do.
type asked map[string]int

func (a asked) Asked(route string, status int) { a[route+" "+http.StatusText(status)]++ }

func TestServer_trouble(t *testing.T) {
	store, _ := told(t)
	seen := asked{}
	var log bytes.Buffer
	o := api.Options{Access: local, Observer: seen, Logger: zerolog.New(&log)}
	for _, test := range []struct {
		name    string
		history func(context.Context) (*replay.History, error)
		status  int
		says    string
	}{
		{"starting", nil, 503, "the store does not answer yet: see the daemon's log"},
		{"silent", func(context.Context) (*replay.History, error) { return nil, context.DeadlineExceeded }, 503, "see that etcd runs and has a leader"},
		{"newer", func(context.Context) (*replay.History, error) {
			return nil, errors.Mark(errors.New("written by a newer version: upgrade"), events.ErrNewer)
		}, 500, "written by a newer version: upgrade"},
		{"secret", func(context.Context) (*replay.History, error) { return nil, errors.New("password=hunter2") }, 500, "see the daemon's log"},
		{"fault", func(context.Context) (*replay.History, error) { panic("hunter2") }, 500, "see the daemon's log"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := server(nil, o)
			if test.history != nil {
				s.Attach(api.Source{Log: source(store).Log, Past: past(test.history)})
			}
			w := get(s, "/api/v1/who?address=10.50.0.2")
			if w.Code != test.status || !strings.Contains(w.Body.String(), test.says) || strings.Contains(w.Body.String(), "hunter2") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if !s.Idle() {
				t.Error("a slot was not given back")
			}
		})
	}
	get(server(store, o), "/api/v1/nowhere/at/all")
	want := asked{"/api/v1/who Service Unavailable": 2, "/api/v1/who Internal Server Error": 3, "other Not Found": 1}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !strings.Contains(log.String(), "password=hunter2") {
		t.Errorf("the log does not tell: %s", log.String())
	}
}
