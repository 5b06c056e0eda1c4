// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"io"

	"github.com/cockroachdb/errors"
	"github.com/knadh/koanf/parsers/yaml"
	yamlv3 "go.yaml.in/yaml/v3"
)

// errSecond is returned for a file with a second document.
var errSecond = errors.New("there is a second document")

// whole is a parser of YAML that reads all there is: the one it stands on is content
// with the first document, and says nothing of what follows.
type whole struct{ *yaml.YAML }

// Unmarshal implements koanf.Parser.
func (w whole) Unmarshal(text []byte) (map[string]any, error) {
	values, err := w.YAML.Unmarshal(text)
	if err != nil {
		return nil, err //nolint:wrapcheck // who asked says what for
	}
	documents := yamlv3.NewDecoder(bytes.NewReader(text))
	for n := 0; ; n++ {
		switch err := documents.Decode(new(yamlv3.Node)); {
		case errors.Is(err, io.EOF):
			return values, nil
		case err != nil:
			return nil, err //nolint:wrapcheck // as above
		case n > 0:
			return nil, errSecond
		}
	}
}
