// SPDX-License-Identifier: Apache-2.0

package embedded

import "os"

// Exists says whether a server ever ran on the data directory dir, whether or not one
// does now.
func Exists(dir string) bool {
	_, err := os.Stat(placeIn(dir).db)
	return err == nil
}
