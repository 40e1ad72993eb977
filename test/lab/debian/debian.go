// SPDX-License-Identifier: Apache-2.0

// Package debian installs what the lab needs from the distribution of the
// machine it runs on.
package debian

import (
	"context"
	"os/exec"
	"slices"
	"strings"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
)

// Need installs packages when a program that they bring isn't in PATH: the
// keys are programs, the values the packages of each, separated by spaces.
func Need(ctx context.Context, log *progress.Log, packages map[string]string) error {
	var missing []string
	for program, names := range packages {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, strings.Fields(names)...)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	missing = slices.Compact(missing)
	return log.Step("installing "+strings.Join(missing, " "), func() error {
		if err := command.Run(ctx, "apt-get", "update", "-qq"); err != nil {
			return err
		}
		_, err := command.Command{
			Args: append([]string{"apt-get", "install", "-y", "-qq", "--no-install-recommends"}, missing...),
			Env:  []string{"DEBIAN_FRONTEND=noninteractive"},
		}.Output(ctx)
		return err
	})
}
