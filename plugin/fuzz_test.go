// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode"
)

var calls = []string{
	"/Plugin.Activate", "/IpamDriver.GetCapabilities", "/IpamDriver.GetDefaultAddressSpaces", "/IpamDriver.RequestPool",
	"/IpamDriver.ReleasePool", "/IpamDriver.RequestAddress", "/IpamDriver.ReleaseAddress",
}

// FuzzRequests: whatever comes, the answer is JSON, and a refusal one line in
// the place where Docker looks for it. The host behind it is stopped: what can
// be a request is refused by it.
func FuzzRequests(f *testing.F) {
	for call := range calls {
		for _, body := range []string{
			"", "{}", "null", "[]", `"x"`, "{", `{"PoolID":1}`,
			`{"AddressSpace":"ipamlog-local","Pool":"10.1.0.0/24","SubPool":"10.1.0.0/26","Options":{"pool":"web","pick":"lowest","quarantine":"5s","prefix":"24"},"V6":false}`,
			`{"AddressSpace":"ipamlog-global","Pool":"::/64","SubPool":"","Options":null,"V6":true}`,
			`{"AddressSpace":"ipamlog-local","Options":{"pool":"a\nb"}}`,
			`{"PoolID":"` + samplePoolID + `","Address":"10.1.0.5","Options":{"com.docker.network.endpoint.macaddress":"02:42:ac:11:00:02","com.docker.network.endpoint.name":"web"}}`,
			`{"PoolID":"` + samplePoolID + `","Address":"","Options":{"RequestAddressType":"com.docker.network.gateway"}}`,
			`{"PoolID":"` + samplePoolID + `","Address":"fe80::1%eth0"}`,
			`{"PoolID":"ipamlog:local/x/y?"}`,
		} {
			f.Add(uint8(call), []byte(body))
		}
	}
	b := newBed(f)
	b.stop()
	h := b.server.Handler()
	f.Fuzz(func(t *testing.T, call uint8, body []byte) {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, calls[int(call)%len(calls)], strings.NewReader(string(body)))
		h.ServeHTTP(w, r)
		switch w.Code {
		case http.StatusOK, http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		default:
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		var answer map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatalf("%d %q: %v", w.Code, w.Body, err)
		}
		said, refused := answer["Error"].(string)
		if w.Code != http.StatusOK {
			said, refused = answer["Err"].(string)
		}
		switch {
		case int(call)%len(calls) < 3:
			if refused || w.Code != http.StatusOK {
				t.Fatalf("a constant was refused: %s", w.Body)
			}
		case !refused || !strings.Contains(said, " ") || strings.ContainsFunc(said, func(r rune) bool { return !unicode.IsPrint(r) }):
			t.Fatalf("%d %q is no sentence", w.Code, w.Body)
		}
	})
}
