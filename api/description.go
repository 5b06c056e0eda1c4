// SPDX-License-Identifier: Apache-2.0

package api

import (
	_ "embed"

	"github.com/cockroachdb/errors"
	"github.com/knadh/koanf/parsers/yaml"
)

//go:embed openapi.yaml
var description []byte

// Description is the OpenAPI document that describes everything below [Prefix],
// as YAML.
func Description() []byte { return description }

func describeYAML(q *question) error {
	q.w.Header().Set("Content-Type", "application/yaml")
	_, err := q.w.Write(description)
	return errors.Wrap(err, "write the description")
}

func describeJSON(q *question) error {
	document, err := yaml.Parser().Unmarshal(description)
	if err != nil {
		return errors.Wrap(err, "read the description")
	}
	return q.one(document)
}
