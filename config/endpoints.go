// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/cockroachdb/errors"
)

// endpointSeparator reports what people put between addresses, on keyboards
// of any script.
func endpointSeparator(r rune) bool {
	return strings.ContainsRune(",，、;；", r) || unicode.IsSpace(r)
}

func readEndpoints(given any) (any, error) {
	texts, err := readTexts(given, endpointSeparator)
	if err != nil {
		return nil, err
	}
	// Nothing is the embedded etcd, but "," is a list that lost its members.
	if text, ok := given.(string); ok && len(texts) == 0 && strings.TrimSpace(text) != "" {
		return nil, errors.Newf("%q names no address, write host:port", text)
	}
	endpoints := []string{}
	for _, text := range texts {
		endpoint, err := readEndpoint(text)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(endpoints, endpoint) {
			endpoints = append(endpoints, endpoint)
		}
	}
	return endpoints, nil
}

func readEndpoint(text string) (string, error) {
	scheme, rest, hasScheme := strings.Cut(text, "://")
	switch {
	case !hasScheme:
		if isHostPort(text) {
			return text, nil
		}
	case scheme == "unix":
		if rest != "" && !strings.ContainsFunc(rest, unicode.IsControl) {
			return text, nil
		}
	case scheme == "http" || scheme == "https":
		rest = strings.TrimSuffix(rest, "/")
		if isHostPort(rest) {
			return scheme + "://" + rest, nil
		}
	}
	return "", errors.Newf("%q cannot be an etcd address, write host:port, https://host:port or unix:///path", withoutUser(text))
}

// withoutUser hides the name and password that a URL may have before its
// host, for an error must not print them.
func withoutUser(text string) string {
	if at := strings.LastIndex(text, "@"); at >= 0 {
		scheme, _, ok := strings.Cut(text, "://")
		if !ok {
			return "***" + text[at:]
		}
		return scheme + "://***" + text[at:]
	}
	return text
}

func isHostPort(text string) bool {
	host, port, err := net.SplitHostPort(text)
	return err == nil && isHost(host) && isPort(port, 1)
}

func isPort(text string, least uint64) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port >= least
}

var (
	dnsName  = regexp.MustCompile(`^[a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9_])?(\.[a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9_])?)*\.?$`)
	lastPart = regexp.MustCompile(`(^|\.)[0-9]+\.?$`)
)

// isHost reports whether text is an address or could be a DNS name. A name
// whose last part is a number is an address gone wrong (10.0.0.256).
func isHost(text string) bool {
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	return len(text) <= 253 && dnsName.MatchString(text) && !lastPart.MatchString(text)
}
