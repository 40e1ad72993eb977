// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"slices"
	"testing"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

// A Secret that isn't read before it is issued would be issued anew in every pass.
func TestEverySecretOfThePKIIsRead(t *testing.T) {
	result, err := pki.Issue(pki.Input{Konnectivity: true, Metrics: true, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for name := range result.Data {
		if !slices.Contains(generated, name) {
			t.Errorf("Secret %s is made and never read", name)
		}
	}
}
