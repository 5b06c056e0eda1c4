// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"path/filepath"
	"slices"
	"strings"
)

// What a file says beside addresses and routes, name servers above all, would be
// lost with the uplink's: the bridge's file says it again.

// networkdKeys are those of the section [Network] that are carried over. Each
// may be there several times, with several words.
var networkdKeys = []string{"DNS", "Domains", "NTP"}

// resolvingLines are the uplink's, with the name servers that networkd knows of
// by other ways.
func (p *planner) resolvingLines() []string {
	words := p.networkdWords()
	for _, server := range slices.Concat(p.uplink.DNS, p.bridge.DNS) {
		if !slices.Contains(words["DNS"], server) {
			words["DNS"] = append(words["DNS"], server)
		}
	}
	var lines []string
	for _, key := range networkdKeys {
		for _, word := range words[key] {
			lines = append(lines, key+"="+word)
		}
	}
	return lines
}

// networkdWords are read from the file that configures the uplink; once that is
// ours, from the bridge's, which got them from it.
func (p *planner) networkdWords() map[string][]string {
	path := p.uplink.Networkd
	if path == "" {
		return map[string][]string{}
	}
	if path == networkdPath(p.uplink.Name, "network") {
		path = networkdPath(p.wishes.Bridge, "network")
	}
	text, ok := p.facts.Files[path]
	if !ok {
		p.warn("%s cannot be read, and what it says of DNS, Domains and NTP is not written for %s: add that to %s by hand",
			path, p.wishes.Bridge, networkdPath(p.wishes.Bridge, "network"))
	}
	return networkWords(text)
}

// networkWords reads a file of networkd's: an empty value takes back what was
// said before, and a line that ends with a backslash goes on.
func networkWords(text string) map[string][]string {
	words := map[string][]string{}
	section := ""
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		switch {
		case !ok || section != "[Network]" || !slices.Contains(networkdKeys, key):
		case strings.TrimSpace(value) == "":
			delete(words, key)
		default:
			for word := range strings.FieldsSeq(value) {
				if !slices.Contains(words[key], word) {
					words[key] = append(words[key], word)
				}
			}
		}
	}
	return words
}

// ifcfgKeys are those of network scripts that are carried over.
var ifcfgKeys = []string{"DNS1", "DNS2", "DNS3", "DOMAIN", "SEARCH"}

// resolvingIfcfg are the lines of the uplink's file for network scripts that say
// how names are resolved.
func (p *planner) resolvingIfcfg() []string {
	var lines []string
	for line := range strings.Lines(p.facts.Files[ifcfgPath(p.uplink.Name)]) {
		line = strings.TrimSpace(line)
		key, _, ok := strings.Cut(line, "=")
		if ok && slices.Contains(ifcfgKeys, key) {
			lines = append(lines, line)
		}
	}
	return lines
}

// warnOfDropIns names the files that change what a file of networkd's says.
func (p *planner) warnOfDropIns() {
	if file := p.uplink.Networkd; file != "" && len(p.uplink.NetworkdDropIns) > 0 && file != networkdPath(p.uplink.Name, "network") {
		var names []string
		for _, path := range p.uplink.NetworkdDropIns {
			names = append(names, filepath.Base(path))
		}
		p.warn("what %s says beside %s is not written for %s: add it to %s by hand where it matters",
			strings.Join(names, ", "), filepath.Base(file), p.wishes.Bridge, networkdPath(p.wishes.Bridge, "network"))
	}
}
