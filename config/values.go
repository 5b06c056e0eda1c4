// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net"
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/render"
)

// as makes a reader of text into an option's.
func as[T any](read func(string) (T, error)) func(any) (any, error) {
	return func(given any) (any, error) {
		text, ok := given.(string)
		if !ok {
			// YAML would have made 83 of a password 0123: what it took for a
			// number is not what was written.
			return nil, errors.New("must be text, put quotes around it")
		}
		return read(text)
	}
}

func readBool(given any) (any, error) {
	switch given := given.(type) {
	case bool:
		return given, nil
	case string:
		if value, err := strconv.ParseBool(given); err == nil {
			return value, nil
		}
	}
	return nil, errors.New("must be true or false")
}

// readTexts reads a list: text is split at the separators, and so is each
// text of a list that came as one.
func readTexts(given any, separator func(rune) bool) ([]string, error) {
	var texts []string
	switch given := given.(type) {
	case string:
		texts = strings.FieldsFunc(given, separator)
	case []string:
		for _, text := range given {
			texts = append(texts, strings.FieldsFunc(text, separator)...)
		}
	case []any:
		for _, element := range given {
			text, ok := element.(string)
			if !ok {
				return nil, errors.New("must be a list of texts, put quotes around each")
			}
			texts = append(texts, strings.FieldsFunc(text, separator)...)
		}
	default:
		return nil, errors.New("must be a list of texts")
	}
	return texts, nil
}

// readPrefix has the prefix begin and end with one slash.
func readPrefix(text string) (string, error) {
	if text == "" {
		return "", errors.New("is empty, name a place such as /ipamlog/v1/")
	}
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
		return "", errors.Newf("%q has white space or control characters, write one such as /ipamlog/v1/", text)
	}
	parts := strings.FieldsFunc(text, func(r rune) bool { return r == '/' })
	if len(parts) == 0 {
		return "/", nil
	}
	return "/" + strings.Join(parts, "/") + "/", nil
}

// readPath makes a path absolute: a daemon may change its directory.
func readPath(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	path, err := filepath.Abs(text)
	return path, errors.Wrapf(err, "%q is no path", text)
}

func readOutput(text string) (string, error) {
	format, err := render.ParseFormat(text)
	return string(format), err
}

func readUser(text string) (string, error) {
	if strings.HasPrefix(text, ":") {
		return "", errors.New("has no name before the colon")
	}
	return text, nil
}

func readText(text string) (string, error) { return text, nil }

func readPassword(text string) (string, error) { return text, nil }

// readHost refuses what would not be one part of a key.
func readHost(text string) (string, error) {
	const longest = 253 // of a DNS name
	if text == "" || len(text) > longest || strings.ContainsFunc(text, func(r rune) bool {
		return r == '/' || unicode.IsSpace(r) || !unicode.IsPrint(r)
	}) {
		return "", errors.Newf("%q cannot be a host's name, write one without slashes and white space", text)
	}
	return text, nil
}

func readEngine(text string) (string, error) {
	if text == Off {
		return Off, nil
	}
	if strings.HasPrefix(text, "/") {
		text = "unix://" + text
	}
	scheme, rest, _ := strings.Cut(text, "://")
	switch scheme {
	case "unix":
		if strings.HasPrefix(rest, "/") {
			return text, nil
		}
	case "tcp", "http", "https":
		if isHostPort(strings.TrimSuffix(rest, "/")) {
			return strings.TrimSuffix(text, "/"), nil
		}
	}
	return "", errors.Newf("%q cannot be Docker's API, write unix:///var/run/docker.sock, tcp://host:port, or off", withoutUser(text))
}

func readListen(text string) (string, error) {
	if text == Off {
		return Off, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err == nil && isPort(port, 0) && (host == "" || isHost(host)) {
		return text, nil
	}
	return "", errors.Newf("%q cannot be listened on, write host:port such as 127.0.0.1:9477, or off", text)
}

func readReconcile(text string) (string, error) {
	if !slices.Contains([]string{"fix", "report", "off"}, text) {
		return "", errors.Newf("%q is no way to reconcile, write fix, report or off", text)
	}
	return text, nil
}

func readDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, errors.Newf("%q is no time, write one such as 30s or 2m", text)
	}
	return d, nil
}

// readAge reads a time in days, or as readDuration does. What is younger than an hour is
// not archived.
func readAge(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d < time.Hour {
		return 0, errors.Newf("%q is no age of an hour or more, write one such as 90d or 36h", text)
	}
	return d, nil
}

// ParsePlace reads where an archive is: a directory, which it makes absolute, or
// s3://BUCKET/PREFIX. Its error reads on after the option's name.
func ParsePlace(text string) (string, error) {
	if bucket, ok := strings.CutPrefix(text, "s3://"); ok && strings.Trim(bucket, "/") != "" && !strings.HasPrefix(bucket, "/") {
		return strings.TrimRight(text, "/"), nil
	}
	if strings.Contains(text, "://") {
		return "", errors.Newf("%q is no place for an archive, write a directory or s3://BUCKET/PREFIX", text)
	}
	return readPath(text)
}

// noLabels is what is given for no label at all.
const noLabels = "none"

func readLabels(given any) (any, error) {
	texts, err := readTexts(given, endpointSeparator)
	if err != nil {
		return nil, err
	}
	patterns := []string{}
	for _, text := range texts {
		if _, err := path.Match(text, ""); err != nil {
			return nil, errors.Newf("%q is no pattern of a label's name, write one such as com.docker.compose.*", text)
		}
		patterns = append(patterns, text)
	}
	switch {
	case len(patterns) == 0:
		return nil, errors.Newf("is empty, write patterns such as com.docker.compose.*, or %s", noLabels)
	case len(patterns) == 1 && patterns[0] == noLabels:
		return []string{}, nil
	}
	return patterns, nil
}

// ParseAddressPool reads "BASE,SIZE", such as "10.0.0.0/8,24": pools of the
// prefix length SIZE are cut from BASE. It also takes "base=BASE,size=SIZE",
// as Docker's own option is written. Its error reads on after the option's
// name.
func ParseAddressPool(text string) (base netip.Prefix, size int, err error) {
	refuse := func(why string) (netip.Prefix, int, error) {
		return netip.Prefix{}, 0, errors.Newf("%q %s, write BASE,SIZE such as 10.0.0.0/8,24", text, why)
	}
	baseText, sizeText, ok := strings.Cut(text, ",")
	if !ok {
		return refuse("has no size")
	}
	base, err = netip.ParsePrefix(strings.TrimPrefix(strings.TrimSpace(baseText), "base="))
	if err != nil {
		return refuse("has no subnet before the comma")
	}
	if base != base.Masked() {
		return refuse("has host bits set in its base")
	}
	size, err = strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(sizeText), "size="))
	if err != nil || size < base.Bits() || size > base.Addr().BitLen() {
		return refuse("has a size that is not between its base's and the longest prefix")
	}
	return base, size, nil
}

func readAddressPools(given any) (any, error) {
	// Commas are inside of a pool, so they cannot stand between two.
	texts, err := readTexts(given, func(r rune) bool { return r == ';' || r == '；' || r == '、' || unicode.IsSpace(r) })
	if err != nil {
		return nil, err
	}
	pools := []string{}
	for _, text := range texts {
		base, size, err := ParseAddressPool(text)
		if err != nil {
			return nil, err
		}
		pools = append(pools, base.String()+","+strconv.Itoa(size))
	}
	return pools, nil
}
