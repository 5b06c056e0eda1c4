// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"maps"
	"path"
	"slices"
	"strings"
)

const (
	// maxLabels is how many labels of a container are told; maxLabel bounds each
	// one's name and value, in bytes.
	maxLabels = 32
	maxLabel  = 1024
)

// allowed picks the labels that fit one of the patterns, and says how many of
// those were left out because they are too long or too many. Which are left out
// of too many is always the same.
func allowed(labels map[string]string, patterns []string) (picked map[string]string, left int) {
	picked = map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		fits := slices.ContainsFunc(patterns, func(p string) bool {
			matched, err := path.Match(noPath(p), noPath(name))
			return err == nil && matched
		})
		switch {
		case !fits:
		case len(picked) == maxLabels || len(name) > maxLabel || len(labels[name]) > maxLabel:
			left++
		default:
			picked[name] = labels[name]
		}
	}
	return picked, left
}

// noPath has no slash: to a label it is a character like any other, and an asterisk
// stands for it too.
func noPath(s string) string { return strings.ReplaceAll(s, "/", "\x00") }
