// SPDX-License-Identifier: Apache-2.0

package engine_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/engine"
)

// listed is an engine that has the networks it lists, but for some.
type listed struct {
	names  []string
	failed map[string]error
	asked  []string
}

func (l *listed) Networks(context.Context) ([]engine.Network, error) {
	var all []engine.Network
	for _, name := range l.names {
		all = append(all, engine.Network{ID: name})
	}
	return all, l.failed[""]
}

func (l *listed) Network(_ context.Context, id string) (engine.Network, error) {
	l.asked = append(l.asked, id)
	return engine.Network{ID: id, Endpoints: []engine.Endpoint{{ID: "of " + id}}}, l.failed[id]
}

// TestSurvey: what is wanted is told of with what is attached, or nothing is.
func TestSurvey(t *testing.T) {
	gone, broken := errors.Mark(errors.New("removed"), engine.ErrNoNetwork), errors.New("broken")
	for name, test := range map[string]struct {
		failed map[string]error
		want   []string
		err    error
	}{
		"all there":          {want: []string{"a1", "a2", "a3"}},
		"one gone meanwhile": {failed: map[string]error{"a2": gone}, want: []string{"a1", "a3"}},
		"one broken":         {failed: map[string]error{"a2": broken}, err: broken},
		"nothing listed":     {failed: map[string]error{"": broken}, err: broken},
		"another is broken":  {failed: map[string]error{"b": broken}, want: []string{"a1", "a2", "a3"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := &listed{names: []string{"a1", "b", "a2", "a3"}, failed: test.failed}
			got, err := engine.Survey(t.Context(), l, func(n engine.Network) bool { return n.ID != "b" })
			var ids []string
			for _, n := range got {
				if ids = append(ids, n.ID); n.Endpoints[0].ID != "of "+n.ID {
					t.Errorf("%+v", n)
				}
			}
			if !errors.Is(err, test.err) || !slices.Equal(ids, test.want) || slices.Contains(l.asked, "b") {
				t.Errorf("%v %v, having asked for %v", ids, err, l.asked)
			}
		})
	}
}

// TestEngine_silent: an engine that does not answer is told of by its address.
func TestEngine_silent(t *testing.T) {
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	defer server.Close()
	defer close(over)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := open(t, server.URL).Networks(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "Docker at "+server.URL+" did not answer in time") {
		t.Error(err)
	}
}
