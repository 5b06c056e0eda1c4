// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"net/netip"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/actor"
)

// ReadWish reads options as --ipam-opt of docker network create has them, each
// NAME=VALUE, for a pool of a subnet that is laid out by hand. It returns
// [ErrOption] with a sentence that names the option.
func ReadWish(options []string, subnet netip.Prefix) (actor.Wish, error) {
	given := map[string]string{}
	for _, option := range options {
		name, value, ok := strings.Cut(option, "=")
		_, twice := given[name]
		switch {
		case !ok:
			return actor.Wish{}, errors.Wrapf(ErrOption, "--ipam-opt %s: write it as NAME=VALUE", option)
		case twice:
			return actor.Wish{}, errors.Wrapf(ErrOption, "--ipam-opt %s: it is given twice", option)
		case name == "pool":
			return actor.Wish{}, errors.Wrapf(ErrOption, "--ipam-opt %s: name the pool with --pool", option)
		}
		given[name] = value
	}
	request := actor.PoolRequest{Subnet: subnet, V6: subnet.Addr().Is6()}
	err := applyOptions(&request, given)
	return request.Wish, err
}
