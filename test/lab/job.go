// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

func mainJob(ctx context.Context, log *progress.Log, _ []string) error {
	return quickstart.Run(ctx, log)
}
