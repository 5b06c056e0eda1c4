// SPDX-License-Identifier: Apache-2.0

package archive

import "time"

// Young lets a test archive what is younger than [MinimumAge].
func (a *Archiver) Young() { a.age = time.Nanosecond }
