// SPDX-License-Identifier: Apache-2.0

package tenant

// awake tells whether the control plane runs only because a client has woken it, and has the pass repeated when it goes back to sleep.
// The time is in an annotation and nowhere else, so that neither a restart nor a wiped status changes it.
func (s *scope) awake() bool {
	if s.replicas() == s.tenant.Replicas() {
		return false
	}
	s.due(s.tenant.AwakeUntil())
	return true
}
