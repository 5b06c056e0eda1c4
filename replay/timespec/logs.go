// SPDX-License-Identifier: Apache-2.0

package timespec

import (
	"fmt"
	"regexp"
	"strings"
)

// What syslog and web servers write before a line is pasted as it is.
var (
	syslog = regexp.MustCompile(`^([a-z]{3}) (\d{1,2}) (\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)$`)
	common = regexp.MustCompile(`^(\d\d)/([a-z]{3})/(\d{4}):(\d\d:\d\d:\d\d) ([+-]\d{4})$`)
)

var months = []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}

// asWritten turns the time of a line of a log into the form that people write; what
// is none it leaves alone. Syslog writes no year: it is the latest in which that day
// has begun.
func (p parser) asWritten(text string) string {
	if m := common.FindStringSubmatch(text); m != nil {
		if month := number(m[2]); month > 0 {
			return fmt.Sprintf("%s-%02d-%s %s %s", m[3], month, m[1], m[4], m[5])
		}
	}
	if m := syslog.FindStringSubmatch(text); m != nil {
		if month := number(m[1]); month > 0 {
			year, today, date := p.now.Year(), p.now.Format("01-02"), fmt.Sprintf("%02d-%02s", month, m[2])
			if strings.ReplaceAll(date, " ", "0") > today {
				year--
			}
			return fmt.Sprintf("%04d-%s %s", year, strings.ReplaceAll(date, " ", "0"), m[3])
		}
	}
	return text
}

// number is that of a month; 0 if it is none.
func number(month string) int {
	for i, name := range months {
		if name == month {
			return i + 1
		}
	}
	return 0
}
