// SPDX-License-Identifier: Apache-2.0

package config

import (
	"io/fs"
	"regexp"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// layer is one place where options are given.
type layer struct {
	provider koanf.Provider
	parser   koanf.Parser
	// place names where an option is given there, for errors.
	place func(option) string
	// failed explains that the place as a whole cannot be read.
	failed func(error) error
	// strange explains a name that is no option.
	strange func(name string) error
	// overlooked is set where everyone on the machine can see what is given.
	overlooked bool
}

// read returns the options given in the layer, each read.
func (l layer) read() (map[string]any, error) {
	given := koanf.New(keyDelimiter)
	if l.provider == nil {
		return nil, nil
	}
	if err := given.Load(l.provider, l.parser); err != nil {
		return nil, l.failed(err)
	}
	values := map[string]any{}
	for _, name := range given.Keys() {
		option, ok := optionNamed(name)
		if !ok {
			return nil, l.strange(name)
		}
		if given.Get(name) == nil {
			continue // "prefix:" with nothing behind it
		}
		value, err := option.read(given.Get(name))
		if err != nil {
			return nil, errors.Newf("%s %v", l.place(option), err)
		}
		values[name] = value
	}
	return values, l.credentials(values)
}

func fileLayer(path string) layer {
	if path == "" {
		return layer{}
	}
	return layer{
		provider: bounded(path),
		parser:   whole{yaml.Parser()},
		place:    func(o option) string { return o.name + " in " + path },
		failed: func(err error) error {
			if pathErr := new(fs.PathError); errors.As(err, &pathErr) || errors.Is(err, errTooLarge) {
				return errors.Newf("the configuration file cannot be read; mend it or name another with --config: %v", err)
			}
			if errors.Is(err, errSecond) {
				return errors.Newf("the configuration file %s has a second list behind a line ---, which nothing would read; leave one", path)
			}
			return errors.Newf("the configuration file %s is not a list of NAME: VALUE in YAML; mend it: %s",
				path, withoutTypes(strings.Join(strings.Fields(err.Error()), " ")))
		},
		strange: func(name string) error {
			var names []string
			for _, o := range options {
				names = append(names, o.name)
			}
			return errors.Newf("%q in %s is no option; write one of %s", name, path, strings.Join(names, ", "))
		},
	}
}

// withoutTypes takes Go's types, and how YAML calls its own, out of what a parser says.
func withoutTypes(said string) string {
	return misfit.ReplaceAllString(strings.Replace(said, "yaml: unmarshal errors: ", "yaml: ", 1), "something else is there")
}

var misfit = regexp.MustCompile("cannot unmarshal .* into .*")

// environmentLayer reads the variables. An empty one is as if it were not
// there: that is how a Docker plugin's settings begin.
func environmentLayer(around Surroundings, unknown *[]string) layer {
	byVariable := map[string]string{}
	for _, o := range options {
		byVariable[o.variable()] = o.name
	}
	noColor := around.getenv("NO_COLOR") != ""
	return layer{
		provider: env.Provider(keyDelimiter, env.Opt{
			EnvironFunc: func() []string { return around.Environ },
			TransformFunc: func(variable, value string) (string, any) {
				name, known := byVariable[variable]
				switch {
				case value == "" || variable == configVariable:
				case known:
					return name, value
				case variable == "NO_COLOR" && around.getenv("IPAMLOG_NO_COLOR") == "":
					return "no-color", noColor
				case strings.HasPrefix(variable, variablePrefix):
					*unknown = append(*unknown, variable)
				}
				return "", nil
			},
		}),
		place: option.variable,
	}
}

func flagLayer(flags *pflag.FlagSet) layer {
	return layer{
		provider: posflag.ProviderWithFlag(flags, keyDelimiter, nil, func(flag *pflag.Flag) (string, any) {
			if !isOurs(flag) {
				return "", nil
			}
			return flag.Name, posflag.FlagVal(flags, flag)
		}),
		place:      func(o option) string { return "--" + o.name },
		overlooked: true,
	}
}
