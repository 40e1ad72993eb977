// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// A tenant goes from etcd to NATS and back, with a client that is never restarted.
func TestMigrationWithNATS(t *testing.T) {
	m, life := &moving{world: start(t)}, t
	server := storagetest.StartNATS(t, 1)
	m.dataStore(t, "default", m.etcd.Config, map[string]string{kamajiv1alpha1.EnableEtcdAuthAnnotation: "true"})
	m.create(t, natsStore("nats", server))
	m.store(t, "default", true, phase.ReasonDone)
	m.store(t, "nats", true, phase.ReasonDone)
	m.create(t, manifest(t, "customer1.yaml"))
	m.tenant(t, name, kamajiv1alpha1.WorkloadReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.RolloutInProgressReason)
	m.boot(t, life)
	m.schema = m.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone).Status.Storage.Setup.Schema
	m.use(t)

	t.Run("to NATS", func(t *testing.T) {
		m.goes(t, life, "nats", true)
		m.clientsGoOn(t)
		if n := server.Keys("/" + m.schema + "/"); n < 50 {
			t.Errorf("the bucket has %d keys", n)
		}
	})
	t.Run("and back", func(t *testing.T) {
		m.goes(t, life, "default", false)
		m.clientsGoOn(t)
	})
	m.quiet()
	t.Run("a second pass writes nothing", func(t *testing.T) { m.settled(t, name) })
}
