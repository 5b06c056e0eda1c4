// SPDX-License-Identifier: Apache-2.0

package config

import (
	"io"
	"os"

	"github.com/cockroachdb/errors"
)

// largest is how many bytes a file may have that is read whole here, so that a
// device, or a disk image, is refused and not read for ever.
const largest = 1 << 20

var errTooLarge = errors.Newf("it has more than %d bytes", largest)

// readFile is os.ReadFile for a file that people write.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the path, and who asked says what for
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, largest+1))
	if err == nil && len(data) > largest {
		return nil, errors.Wrap(errTooLarge, path)
	}
	return data, err //nolint:wrapcheck // as above
}

// bounded is a file for koanf.
type bounded string

// ReadBytes implements koanf.Provider.
func (b bounded) ReadBytes() ([]byte, error) { return readFile(string(b)) }

// Read implements koanf.Provider.
func (bounded) Read() (map[string]any, error) { return nil, errors.New("a file is read as bytes") }
