// SPDX-License-Identifier: Apache-2.0

package bitmap

// NewSparse makes a Set kept in maps whatever its size, so that tests can fill
// one completely.
func NewSparse(size uint64) *Set { return build(size, sparseWords) }
