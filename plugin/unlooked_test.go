// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/plugin"
)

// On a store that may lack what this host uses an address is refused at once, and a
// pool is not.
func TestDriver_LookFirst(t *testing.T) {
	b := newBed(t)
	poolID, ref := b.pool("10.1.0.0/24")
	looked := make(chan struct{})
	driver := plugin.NewDriver(nil)
	driver.LookFirst(looked)
	driver.Attach(b.host)
	_, client := serve(t, plugin.NewServer(driver, b.seen, zerolog.Nop()))
	ask := func() (int, string) {
		return send(t, client, http.MethodPost, "/IpamDriver.RequestAddress", `{"PoolID":"`+poolID+`","Address":"","Options":{"com.docker.network.endpoint.macaddress":"02:42:0a:01:00:02"}}`)
	}
	status, answer := ask()
	const says = "The store is another one, and what this host's containers use was not looked at yet: try again in a moment, once Docker answers"
	if said := sentence(t, status, answer); said != says || b.held(ref) != 0 {
		t.Errorf("%s", said)
	}
	close(looked)
	if status, answer := ask(); status != http.StatusOK || !strings.Contains(answer, `"Address":"10.1.0.`) {
		t.Errorf("after the look: %d %s", status, answer)
	}
}
