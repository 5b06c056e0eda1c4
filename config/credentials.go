// SPDX-License-Identifier: Apache-2.0

package config

import (
	"strings"
	"unicode/utf8"

	"github.com/cockroachdb/errors"
)

// credentials takes a user apart that was written name:password as for
// etcdctl, and refuses a password that others may have read by now.
func (l layer) credentials(values map[string]any) error {
	if user, ok := values["user"].(string); ok {
		if name, password, ok := strings.Cut(user, ":"); ok {
			values["user"], values["password"] = name, password
		}
	}
	_, password := values["password"]
	_, passwordFile := values["password-file"]
	switch {
	case password && l.overlooked:
		return errors.New("a password on the command line is seen by everyone on this machine; set IPAMLOG_PASSWORD, or name a file with --password-file")
	case password && passwordFile:
		return errors.Newf("%s and %s are both given; leave one out",
			l.place(option{name: "password"}), l.place(option{name: "password-file"}))
	}
	return nil
}

// ReadPassword returns what a password file holds but the line break at its end,
// which editors put there.
func ReadPassword(path string) (Secret, error) {
	text, err := readFile(path)
	if err != nil {
		return "", errors.Newf("the password file cannot be read; mend it or name another with --password-file: %v", err)
	}
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" {
		return "", errors.Newf("the password file %s is empty; write the password into it", path)
	}
	if !utf8.ValidString(password) {
		return "", errors.Newf("the password file %s holds something else than text; write the password into it", path)
	}
	return Secret(password), nil
}
