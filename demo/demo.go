// SPDX-License-Identifier: Apache-2.0

// Package demo shows ipamlog without Docker.
package demo

import "github.com/spf13/cobra"

// Command returns the demo command.
func Command() *cobra.Command { return &cobra.Command{Use: "demo"} }
