// SPDX-License-Identifier: Apache-2.0

package spool

import "os"

// Break makes the next line fail to be written, as a full disk does.
func (s *Spool) Break() {
	_ = s.file.Close()
	s.file, _ = os.Open(s.path(fileName))
}
