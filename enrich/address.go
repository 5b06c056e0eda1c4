// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"net/netip"
	"strings"
)

// readAddress reads an address as logs have it: plain, in brackets, with a port,
// with a zone.
func readAddress(text string) (netip.Addr, bool) {
	if address, ok := plainAddress(text); ok {
		return address, true
	}
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

// plainAddress reads an IPv4 address that nothing is around, as most are.
func plainAddress(text string) (netip.Addr, bool) {
	const most = len("255.255.255.255")
	if len(text) > most {
		return netip.Addr{}, false
	}
	var address [4]byte
	part, digits, n := 0, 0, 0
	for i := range len(text) {
		if text[i] == '.' {
			if digits == 0 || part == 3 {
				return netip.Addr{}, false
			}
			address[part] = byte(n)
			part, digits, n = part+1, 0, 0
			continue
		}
		d := text[i] - '0'
		if d > 9 || digits > 0 && n == 0 { // a leading zero may mean another base
			return netip.Addr{}, false
		}
		if n = 10*n + int(d); n > 255 {
			return netip.Addr{}, false
		}
		digits++
	}
	if part != 3 || digits == 0 {
		return netip.Addr{}, false
	}
	address[3] = byte(n)
	return netip.AddrFrom4(address), true
}
