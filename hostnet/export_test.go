// SPDX-License-Identifier: Apache-2.0

package hostnet

// Obstruct has a test decide on each change before it is made.
func (m *Machine) Obstruct(decide func(change string) error) { m.obstacle = decide }

// WriteFile is the step that writes a file.
type WriteFile = writeFile
