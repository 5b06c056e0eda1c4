// SPDX-License-Identifier: Apache-2.0

package archive

// CutShelf returns a shelf whose places are changed.
func CutShelf(change func(Place) Place) *Shelf { return &Shelf{change: change} }
