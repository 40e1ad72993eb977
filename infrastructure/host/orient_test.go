// SPDX-License-Identifier: Apache-2.0

package host

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
)

func claimOf(id string, deleting bool) *infrav1.RackHostClaim {
	c := &infrav1.RackHostClaim{Spec: infrav1.RackHostClaimSpec{ID: id}}
	if deleting {
		now := metav1.Now()
		c.DeletionTimestamp = &now
	}
	return c
}

func TestOrient(t *testing.T) {
	live, deleting := claimOf("a", false), claimOf("a", true)
	for _, c := range []struct {
		name     string
		recorded infrav1.HostPhase
		// known is the claim that the status names.
		known string
		claim *infrav1.RackHostClaim
		want  infrav1.HostPhase
	}{
		{"new host", "", "", nil, infrav1.HostRegistering},
		{"status lost while claimed", "", "", live, infrav1.HostRegistering},
		{"free", infrav1.HostAvailable, "", nil, infrav1.HostAvailable},
		{"taken", infrav1.HostAvailable, "", live, infrav1.HostClaimed},
		{"taken before it was seen free", infrav1.HostRegistering, "", live, infrav1.HostRegistering},
		{"at work", infrav1.HostBootstrapping, "a", live, infrav1.HostBootstrapping},
		{"running", infrav1.HostRunning, "a", live, infrav1.HostRunning},
		{"another claim than the known one", infrav1.HostRunning, "b", live, infrav1.HostRegistering},
		{"claim for a quarantined host", infrav1.HostQuarantined, "", live, infrav1.HostRegistering},
		{"claim being deleted", infrav1.HostRunning, "a", deleting, infrav1.HostReleasing},
		{"claim being deleted and status lost", "", "", deleting, infrav1.HostRegistering},
		{"registering for a claim being deleted", infrav1.HostRegistering, "a", deleting, infrav1.HostReleasing},
		{"cleaning goes on", infrav1.HostCleaning, "a", deleting, infrav1.HostCleaning},
		{"claim vanished while running", infrav1.HostRunning, "a", nil, infrav1.HostRegistering},
		{"claim released while cleaning", infrav1.HostCleaning, "a", nil, infrav1.HostCleaning},
		{"quarantined", infrav1.HostQuarantined, "", nil, infrav1.HostQuarantined},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := &infrav1.RackHost{Status: infrav1.RackHostStatus{Phase: c.recorded}}
			if c.known != "" {
				host.Status.Claim = &infrav1.HostClaimReference{ID: c.known}
			}
			if got := orient(host, c.claim); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	edited := &infrav1.RackHost{ObjectMeta: metav1.ObjectMeta{Generation: 2}, Status: infrav1.RackHostStatus{
		Phase:      infrav1.HostAvailable,
		Conditions: []metav1.Condition{{Type: infrav1.HostSSHReachableCondition, ObservedGeneration: 1}},
	}}
	if got := orient(edited, nil); got != infrav1.HostRegistering {
		t.Errorf("a free host with a new spec is %s", got)
	}
}

func TestJudge(t *testing.T) {
	left := []string{"/var/lib/kubelet is not empty"}
	for _, c := range []struct {
		name        string
		operation   string
		findings    []string
		annotations map[string]string
		claim       *infrav1.RackHostClaim
		want        infrav1.HostPhase
		reason      string
	}{
		{name: "clean", want: infrav1.HostAvailable},
		{name: "clean and claimed", claim: claimOf("a", false), want: infrav1.HostClaimed},
		{name: "carries the claim's bootstrap", operation: "a", claim: claimOf("a", false), want: infrav1.HostBootstrapping},
		{name: "carries another's, claimed", operation: "b", claim: claimOf("a", false), want: infrav1.HostRegistering, reason: infrav1.HostForeignReason},
		{name: "carries another's, free", operation: "b", want: infrav1.HostQuarantined, reason: infrav1.HostForeignReason},
		{name: "carries a released one", operation: "b", annotations: map[string]string{infrav1.ReleasedClaimAnnotation: "b"}, want: infrav1.HostDirty},
		{name: "carries neither the released one", operation: "c", annotations: map[string]string{infrav1.ReleasedClaimAnnotation: "b"},
			want: infrav1.HostQuarantined, reason: infrav1.HostForeignReason},
		{name: "used by hand", findings: left, want: infrav1.HostQuarantined, reason: infrav1.HostNotCleanReason},
		{name: "used by hand, claimed", findings: left, claim: claimOf("a", false), want: infrav1.HostRegistering, reason: infrav1.HostNotCleanReason},
		{name: "to be cleaned", findings: left, annotations: map[string]string{infrav1.CleanAnnotation: "now"}, want: infrav1.HostDirty},
		{name: "to be cleaned whoever has it", operation: "b", annotations: map[string]string{infrav1.CleanAnnotation: "now"}, want: infrav1.HostDirty},
		{name: "to be cleaned and clean", annotations: map[string]string{infrav1.CleanAnnotation: "now"}, want: infrav1.HostAvailable},
		{name: "never under a live claim", operation: "a", annotations: map[string]string{infrav1.CleanAnnotation: "now"},
			claim: claimOf("a", false), want: infrav1.HostBootstrapping},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := &infrav1.RackHost{ObjectMeta: metav1.ObjectMeta{Annotations: c.annotations}}
			got := judge(c.operation, c.findings, host, c.claim)
			if got.phase != c.want || got.reason != c.reason {
				t.Errorf("got %+v, want %s %s", got, c.want, c.reason)
			}
		})
	}
}

func TestNextReset(t *testing.T) {
	claim := claimOf("11111111-2222-3333-4444-555555555555", true)
	base := "reset-" + claim.Spec.ID
	reset := func(id, state string) *infrav1.HostOperation {
		return &infrav1.HostOperation{Type: infrav1.HostOperationReset, ID: id, State: state}
	}
	for _, c := range []struct {
		name string
		last *infrav1.HostOperation
		want string
	}{
		{"first", nil, base},
		{"after the bootstrap", &infrav1.HostOperation{Type: infrav1.HostOperationBootstrap, ID: claim.Spec.ID}, base},
		{"after another claim's", reset("reset-other", string(driver.Succeeded)), base},
		{"again under the same name when it failed", reset(base, string(driver.Failed)), base},
		{"a new name when it lied", reset(base, stateUnverified), base + "-r2"},
		{"and again", reset(base+"-r2", stateUnverified), base + "-r3"},
		{"the numbered one goes on", reset(base+"-r3", string(driver.Running)), base + "-r3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := &infrav1.RackHost{Status: infrav1.RackHostStatus{LastOperation: c.last}}
			if got := nextReset(host, claim); got != c.want || !driver.ValidID(got) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	long := nextReset(&infrav1.RackHost{}, claimOf(strings.Repeat("x", 63), true))
	asked := nextReset(&infrav1.RackHost{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{infrav1.CleanAnnotation: "Now, please!"}}}, nil)
	if !driver.ValidID(long) || !driver.ValidID(asked) {
		t.Errorf("%q and %q must name operations", long, asked)
	}
}
