// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/api"
	"github.com/ipamlog/ipamlog/replay"
)

func mustPrefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

// described is the description as a client reads it.
func described(t testing.TB) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(api.Description())
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestDescription_routes(t *testing.T) {
	doc := described(t)
	got := map[string][]string{}
	for path, item := range doc.Paths.Map() {
		if item.Get == nil || len(item.Operations()) != 1 {
			t.Errorf("%s is not just asked with GET", path)
			continue
		}
		got[path] = nil
		for _, p := range item.Get.Parameters {
			if p.Value.In != "query" || p.Value.Description == "" {
				t.Errorf("%s: %s is not described", path, p.Value.Name)
			}
			got[path] = append(got[path], p.Value.Name)
		}
	}
	sort := cmp.Transformer("sorted", func(list []string) []string { return slices.Sorted(slices.Values(list)) })
	if diff := cmp.Diff(api.Routes(), got, cmp.FilterPath(func(p cmp.Path) bool { return len(p) == 2 }, sort)); diff != "" {
		t.Errorf("(-served +described):\n%s", diff)
	}
}

func TestDescription_served(t *testing.T) {
	s := server(nil, api.Options{Access: local})
	if w := get(s, "/api/v1/openapi.yaml"); !bytes.Equal(w.Body.Bytes(), api.Description()) {
		t.Error("another description is served")
	}
	doc, err := openapi3.NewLoader().LoadFromData(get(s, "/api/v1/openapi.json").Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(described(t).Paths.Map())), slices.Sorted(maps.Keys(doc.Paths.Map()))); diff != "" {
		t.Errorf("(-YAML +JSON):\n%s", diff)
	}
}

// checker holds answers to the description.
type checker struct {
	doc    *openapi3.T
	router routers.Router
}

// strict has an answer's every field be described, too, but for those that hang on
// the type of an event.
func strict(t testing.TB) checker {
	t.Helper()
	openapi3filter.RegisterBodyDecoder("application/x-ndjson", openapi3filter.FileBodyDecoder)
	doc := described(t)
	for name, schema := range doc.Components.Schemas {
		if name != "Event" && schema.Value.Type.Is("object") && name != "Pool" {
			no := false
			schema.Value.AdditionalProperties.Has = &no
		}
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return checker{doc, router}
}

// check says what is wrong with an answer; nothing for a path or method that is not
// described.
func (c checker) check(ctx context.Context, r *http.Request, w *httptest.ResponseRecorder) error {
	path := c.doc.Paths.Find(r.URL.Path)
	if path == nil {
		return nil
	}
	route := &routers.Route{Spec: c.doc, Path: r.URL.Path, PathItem: path, Method: http.MethodGet, Operation: path.Get}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, Route: route},
		Status:                 w.Code, Header: w.Header(), Body: io.NopCloser(bytes.NewReader(w.Body.Bytes())),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}
	return openapi3filter.ValidateResponse(ctx, input)
}

// Every answer of each route is as it is described, with every status that is
// described for it, and no other.
func TestDescription_answers(t *testing.T) {
	store, _ := told(t)
	c := strict(t)
	const at = "at=2025-03-01T04:25:00Z"
	good := map[string][]string{
		"pools":        {"", "?format=jsonl", "?format=csv"},
		"holders":      {"?pool=web", "?pool=blue&" + at, "?pool=web&" + at + "&format=csv"},
		"who":          {"?address=10.50.0.2&" + at, "?address=10.50.0.4&at=2025-03-01T03:25:00Z", "?address=10.50.0.1&at=@12", "?address=10.50.0.2&format=jsonl&at=@20"},
		"history":      {"?subject=10.50.0.2", "?subject=pool:web", "?subject=host:h1&since=03:00&until=-1h", "?subject=fd00:1::2"},
		"diff":         {"?pool=web&from=@4&to=@30", "?pool=web&from=@4&format=jsonl", "?pool=web&from=@4&format=csv"},
		"events":       {"?format=json", "", "?pool=web&since=@3&limit=2", "?format=csv"},
		"replay":       {"", "?pool=web&" + at, "?format=jsonl"},
		"version":      {""},
		"openapi.json": {""},
		"openapi.yaml": {""},
	}
	missing := map[string]string{
		"holders": "?pool=red", "who": "?address=10.50.0.99&at=@9", "history": "?subject=red", "diff": "?pool=red&from=@1", "events": "?pool=red", "replay": "?pool=red",
	}
	const two = "10.50.0.0/24"
	several := map[string]string{
		"holders": "?pool=" + two, "who": "?address=10.50.0.2&pool=" + two, "history": "?subject=" + two, "diff": "?from=@1&pool=" + two, "events": "?pool=" + two, "replay": "?pool=" + two,
	}
	now := func() time.Time { return time.Date(2025, 3, 2, 12, 0, 0, 0, time.UTC) }
	usual := server(store, api.Options{Access: local, Now: now})
	guarded := server(store, api.Options{Access: api.Access{Local: true, Tokens: tokens(t, alice)}})
	closed := server(store, api.Options{})
	gone := tokenFile(t, 0o600, alice)
	known, err := api.ReadTokens(gone, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	away := server(store, api.Options{Access: api.Access{Local: true, Tokens: known}})
	broken := server(nil, api.Options{Access: local})
	broken.Attach(api.Source{Past: past(func(context.Context) (*replay.History, error) { panic("broken") })})

	for name := range api.Routes() {
		t.Run(name, func(t *testing.T) {
			short := strings.TrimPrefix(name, "/api/v1/")
			seen := map[string]bool{}
			ask := func(s http.Handler, method, query string, status int) {
				t.Helper()
				r := httptest.NewRequest(method, name+query, http.NoBody)
				r.Host = "localhost"
				w := httptest.NewRecorder()
				s.ServeHTTP(w, r)
				if err := c.check(t.Context(), r, w); err != nil || w.Code != status {
					t.Errorf("%s %s%s: %d, want %d: %v\n%s", method, name, query, w.Code, status, err, w.Body)
				}
				seen[strconv.Itoa(w.Code)] = true
			}
			if len(good[short]) == 0 {
				t.Fatal("no question of this test is for it")
			}
			for _, query := range good[short] {
				ask(usual, http.MethodGet, query, http.StatusOK)
			}
			ask(usual, http.MethodGet, "?nonsense=1", http.StatusBadRequest)
			ask(usual, http.MethodPost, "", http.StatusMethodNotAllowed)
			ask(guarded, http.MethodGet, "", http.StatusUnauthorized)
			ask(closed, http.MethodGet, "", http.StatusForbidden)
			ask(away, http.MethodGet, "", http.StatusServiceUnavailable)
			if query, ok := missing[short]; ok {
				ask(usual, http.MethodGet, query, http.StatusNotFound)
				ask(usual, http.MethodGet, several[short], http.StatusConflict)
			}
			if c.doc.Paths.Find(name).Get.Responses.Status(http.StatusInternalServerError) != nil {
				ask(broken, http.MethodGet, good[short][0], http.StatusInternalServerError)
			}
			want := map[string]bool{}
			for status := range c.doc.Paths.Find(name).Get.Responses.Map() {
				want[status] = true
			}
			if diff := cmp.Diff(want, seen); diff != "" {
				t.Errorf("(-described +seen):\n%s", diff)
			}
		})
	}
}

// Whatever is asked, the answer is one that is described.
func FuzzServer(f *testing.F) {
	store, _ := told(f)
	s := server(store, api.Options{Access: local})
	c := strict(f)
	for _, seed := range [][2]string{
		{"who", "address=10.50.0.2&at=03:11"},
		{"who", "address=fe80::1%25eth0&zone=Europe/Berlin"},
		{"history", "subject=label:a=b&since=-2h"},
		{"history", "subject=image:nginx&format=csv"},
		{"holders", "pool=01JN7W9S40&at=%40%37"},
		{"events", "limit=3&pool=web&format=json"},
		{"events", "limit=-9223372036854775808"},
		{"diff", "pool=web&from=@1&to=@9999999999999999999"},
		{"replay", "pool=%00&at=2025-02-30"},
		{"pools", "format=jsonl;format=csv"},
		{"version", "%"},
		{"../v1/pools", "a=b=c&&&"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, path, query string) {
		if strings.Contains(query, "follow") {
			return // it does not end
		}
		r := httptest.NewRequest(http.MethodGet, "/api/v1/x", http.NoBody)
		r.Host, r.URL.Path, r.URL.RawQuery = "localhost", "/api/v1/"+path, query
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code == http.StatusInternalServerError || w.Code == http.StatusServiceUnavailable {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if err := c.check(t.Context(), r, w); err != nil {
			t.Fatalf("%d: %v\n%s", w.Code, err, w.Body)
		}
	})
}
