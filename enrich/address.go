// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"net/netip"
	"strings"
)

// readAddress reads an address as logs have it: plain, in brackets, with a port,
// with a zone.
func readAddress(text string) (netip.Addr, bool) {
	text = strings.TrimSpace(text)
	if inside, ok := strings.CutPrefix(text, "["); ok {
		end := strings.IndexByte(inside, ']')
		if end < 0 || !isPort(inside[end+1:]) {
			return netip.Addr{}, false
		}
		text = inside[:end]
	} else if colon := strings.IndexByte(text, ':'); colon > 0 && strings.IndexByte(text[:colon], '.') > 0 {
		if !isPort(text[colon:]) {
			return netip.Addr{}, false
		}
		text = text[:colon]
	}
	// A zone says which link, and is no part of what was given out.
	if zone := strings.IndexByte(text, '%'); zone > 0 && strings.IndexByte(text[:zone], ':') >= 0 {
		text = text[:zone]
	}
	address, err := netip.ParseAddr(text)
	return address, err == nil
}

// isPort says whether a text is nothing, or a colon and a port.
func isPort(text string) bool {
	if text == "" {
		return true
	}
	if text[0] != ':' || len(text) < 2 || len(text) > 6 {
		return false
	}
	return strings.Trim(text[1:], "0123456789") == ""
}
