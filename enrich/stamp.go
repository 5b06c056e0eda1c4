// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"time"

	"github.com/ipamlog/ipamlog/replay"
)

// appendStamp appends what [replay.Stamp] writes, at a tenth of the cost.
func appendStamp(line []byte, t time.Time) []byte {
	micro := t.UnixMicro()
	const perDay = secondsADay * 1_000_000
	days := floor(micro, perDay)
	year, month, day := dateOf(days)
	if t.IsZero() || year < 0 || year > 9999 {
		return append(line, replay.Stamp(t)...)
	}
	of := micro - days*perDay
	line = appendDigits(line, year, 4)
	line = append(line, '-')
	line = appendDigits(line, month, 2)
	line = append(line, '-')
	line = appendDigits(line, day, 2)
	line = append(line, 'T')
	line = appendDigits(line, of/3_600_000_000, 2)
	line = append(line, ':')
	line = appendDigits(line, of/60_000_000%60, 2)
	line = append(line, ':')
	line = appendDigits(line, of/1_000_000%60, 2)
	line = append(line, '.')
	line = appendDigits(line, of%1_000_000, 6)
	return append(line, 'Z')
}

func appendDigits(line []byte, n int64, digits int) []byte {
	var text [6]byte
	for i := digits - 1; i >= 0; i-- {
		text[i] = byte('0' + n%10)
		n /= 10
	}
	return append(line, text[:digits]...)
}

// dateOf undoes [daysSince1970].
func dateOf(days int64) (year, month, day int64) {
	days += 719468 // since March 1st of the year 0
	era := floor(days, 146097)
	ofEra := days - era*146097
	yearOfEra := (ofEra - ofEra/1460 + ofEra/36524 - ofEra/146096) / 365
	ofYear := ofEra - (365*yearOfEra + yearOfEra/4 - yearOfEra/100)
	month = (5*ofYear + 2) / 153
	day = ofYear - (153*month+2)/5 + 1
	year = yearOfEra + 400*era
	if month += 3; month > 12 {
		month, year = month-12, year+1
	}
	return year, month, day
}
