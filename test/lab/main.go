// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/binaries"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
)

func main() {
	log := progress.New(os.Stderr)
	dir, err := binaries.Assets(context.Background(), log)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(dir)
}
