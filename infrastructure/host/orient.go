// SPDX-License-Identifier: Apache-2.0

package host

import (
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
)

// orient corrects the recorded phase by what has happened outside: claims come and go, specs change, statuses get lost.
func orient(host *infrav1.RackHost, claim *infrav1.RackHostClaim) infrav1.HostPhase {
	recorded := host.Status.Phase
	switch {
	case recorded == "":
		return infrav1.HostRegistering
	case claim == nil && inUse(recorded):
		// The claim vanished without its finalizer having been honoured: look again.
		return infrav1.HostRegistering
	case claim == nil:
		if recorded == infrav1.HostAvailable && verifiedGeneration(host) != host.Generation {
			return infrav1.HostRegistering
		}
		return recorded
	case !claim.DeletionTimestamp.IsZero():
		if recorded == infrav1.HostDirty || recorded == infrav1.HostCleaning {
			return recorded
		}
		return infrav1.HostReleasing
	case host.Status.Claim == nil || host.Status.Claim.ID != claim.Spec.ID:
		if recorded == infrav1.HostAvailable && host.Status.Claim == nil {
			return infrav1.HostClaimed
		}
		return infrav1.HostRegistering
	default:
		return recorded
	}
}

func inUse(p infrav1.HostPhase) bool {
	switch p {
	case infrav1.HostClaimed, infrav1.HostPreparing, infrav1.HostBootstrapping, infrav1.HostRunning, infrav1.HostReleasing:
		return true
	default:
		return false
	}
}

// verifiedGeneration is the generation of the spec with which the host was last reached.
func verifiedGeneration(host *infrav1.RackHost) int64 {
	if c := meta.FindStatusCondition(host.Status.Conditions, infrav1.HostSSHReachableCondition); c != nil {
		return c.ObservedGeneration
	}
	return 0
}

// holder says whose bootstrap a host carries.
type holder int

const (
	heldByNobody holder = iota
	// heldByClaim: the current claim's.
	heldByClaim
	// heldByReleased: that of a claim which was released without proof of cleaning.
	heldByReleased
	// heldByOther: one this management cluster doesn't know.
	heldByOther
)

func holderOf(operation string, host *infrav1.RackHost, claim *infrav1.RackHostClaim) holder {
	switch {
	case operation == "":
		return heldByNobody
	case claim != nil && claim.Spec.ID == operation:
		return heldByClaim
	case host.Annotations[infrav1.ReleasedClaimAnnotation] == operation:
		return heldByReleased
	default:
		return heldByOther
	}
}

// cleanRequested tells whether a person asked for the host to be reset whatever it holds.
func cleanRequested(host *infrav1.RackHost) bool {
	_, ok := host.Annotations[infrav1.CleanAnnotation]
	return ok
}

// verdict is where a host belongs after an inspection, and why it is not simply usable.
type verdict struct {
	phase           infrav1.HostPhase
	reason, message string
}

// judge decides about an inspected host that has no live operation recorded.
func judge(operation string, findings []string, host *infrav1.RackHost, claim *infrav1.RackHostClaim) verdict {
	held := holderOf(operation, host, claim)
	askable := "; if it is no longer needed, annotate the RackHost with " + infrav1.CleanAnnotation + "=now to have it reset"
	var bad verdict
	switch {
	case held == heldByClaim:
		return verdict{phase: infrav1.HostBootstrapping}
	case held == heldByNobody && len(findings) == 0 && claim != nil:
		return verdict{phase: infrav1.HostClaimed}
	case held == heldByNobody && len(findings) == 0:
		return verdict{phase: infrav1.HostAvailable}
	case claim == nil && held == heldByReleased, cleanRequested(host):
		return verdict{phase: infrav1.HostDirty}
	case held != heldByNobody:
		bad = verdict{infrav1.HostQuarantined, infrav1.HostForeignReason,
			"the host carries bootstrap " + operation + ", which no RackHostClaim here stands for" + askable}
	default:
		bad = verdict{infrav1.HostQuarantined, infrav1.HostNotCleanReason,
			"the host is not clean: " + strings.Join(findings, "; ") + askable}
	}
	if claim != nil {
		// The lock is held by a claim, so there is nothing to keep the host from.
		bad.phase = infrav1.HostRegistering
	}
	return bad
}
