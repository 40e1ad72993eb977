// SPDX-License-Identifier: Apache-2.0

package mysql_test

import (
	"testing"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
)

func TestMoverContract(t *testing.T) {
	from, to := storagetest.StartMariaDB(t), storagetest.StartMariaDB(t)
	storagetest.RunMover(t, storagetest.MoveHarness{
		Source: storagetest.Harness{Driver: open(t, from.Config), Store: from}, Target: storagetest.Harness{Driver: open(t, to.Config), Store: to},
	})
}
