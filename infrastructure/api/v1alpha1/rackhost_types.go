// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// HostFinalizer keeps a RackHost as long as a RackHostClaim holds it: without the host's address and key nobody
	// could clean it.
	HostFinalizer = "infrastructure.cluster.x-k8s.io/rackhost"

	// CleanAnnotation on a quarantined RackHost asks for a reset, whatever the host holds. Its value is free. It is
	// removed once the host is clean.
	CleanAnnotation = "infrastructure.cluster.x-k8s.io/clean"

	// ReleasedClaimAnnotation on a RackHost holds the ID of the last claim that was given up without proof that
	// the host was cleaned. A host that comes back with that bootstrap is reset without asking.
	ReleasedClaimAnnotation = "infrastructure.cluster.x-k8s.io/released-claim"
)

// CleanPolicy says how a host is made fit for the next claim.
// +kubebuilder:validation:Enum=Reset
type CleanPolicy string

// CleanPolicyReset stops and removes all of Kubernetes on the host, and verifies it. Disks of workloads are not wiped.
const CleanPolicyReset CleanPolicy = "Reset"

// HostPhase is where a host is in its life. The diagram is in the documentation of the package infrastructure/host.
// +kubebuilder:validation:Enum=Registering;Available;Claimed;Preparing;Bootstrapping;Running;Releasing;Dirty;Cleaning;Quarantined
type HostPhase string

const (
	// HostRegistering: not looked at yet, or not usable yet; the conditions tell why.
	HostRegistering HostPhase = "Registering"
	// HostAvailable: verified clean and free.
	HostAvailable HostPhase = "Available"
	// HostClaimed: a RackHostClaim exists and nothing was done on the host yet.
	HostClaimed HostPhase = "Claimed"
	// HostPreparing: last checks, then the bootstrap data is read and delivered.
	HostPreparing HostPhase = "Preparing"
	// HostBootstrapping: the host runs the bootstrap data.
	HostBootstrapping HostPhase = "Bootstrapping"
	// HostRunning: the host joined its cluster.
	HostRunning HostPhase = "Running"
	// HostReleasing: the claim is being deleted.
	HostReleasing HostPhase = "Releasing"
	// HostDirty: no longer in use, not clean yet.
	HostDirty HostPhase = "Dirty"
	// HostCleaning: the reset runs, or its result is being verified.
	HostCleaning HostPhase = "Cleaning"
	// HostQuarantined: not known to be clean and not ours to clean without being told.
	HostQuarantined HostPhase = "Quarantined"
)

// Conditions of a RackHost.
const (
	// HostKeyVerifiedCondition: the host proved to be the one whose key is pinned.
	HostKeyVerifiedCondition = "HostKeyVerified"
	// HostSSHReachableCondition: the last attempt to log in succeeded.
	HostSSHReachableCondition = "SSHReachable"
	// HostCleanCondition: the host was verified to hold nothing of any cluster. False while it is in use.
	HostCleanCondition = "Clean"
	// HostBootstrappedCondition: the bootstrap data of the current claim ran to its end. Only present with a claim.
	HostBootstrappedCondition = "Bootstrapped"
	// HostReadyCondition: the host is Available or Running.
	HostReadyCondition = "Ready"
)

// Reasons of RackHost conditions.
const (
	// HostVerifiedReason: the host answered and was checked.
	HostVerifiedReason = "Verified"
	// HostKeyMismatchReason: the host presented another key than the pinned ones.
	HostKeyMismatchReason = "HostKeyMismatch"
	// HostKeyUnpinnedReason: spec.ssh.hostKeys is empty.
	HostKeyUnpinnedReason = "HostKeyUnpinned"
	// HostUnreachableReason: no answer.
	HostUnreachableReason = "Unreachable"
	// HostAuthenticationFailedReason: the host refused the user, the key or sudo.
	HostAuthenticationFailedReason = "AuthenticationFailed"
	// HostCredentialsMissingReason: the Secret or its key is not there.
	HostCredentialsMissingReason = "CredentialsMissing"
	// HostInvalidTargetReason: a field of spec.ssh can't be used.
	HostInvalidTargetReason = "InvalidTarget"
	// HostProgramsMissingReason: the host lacks programs that joining a cluster needs.
	HostProgramsMissingReason = "ProgramsMissing"
	// HostClaimChangedReason: the claim was released while the host was being prepared for it.
	HostClaimChangedReason = "ClaimChanged"
	// HostInUseReason: the host belongs to the current claim.
	HostInUseReason = "InUse"
	// HostNotCleanReason: something of a former cluster is left.
	HostNotCleanReason = "NotClean"
	// HostForeignReason: the host is in use by something this management cluster doesn't know.
	HostForeignReason = "InUseByOther"
	// HostReleasedUncleanReason: the claim was given up before the host could be cleaned.
	HostReleasedUncleanReason = "ReleasedUnclean"
	// HostCleaningReason: a reset is under way.
	HostCleaningReason = "Cleaning"
	// HostResetFailedReason: the last reset failed and will be tried again.
	HostResetFailedReason = "ResetFailed"
	// HostUnavailableReason: spec.unavailable is true.
	HostUnavailableReason = "Unavailable"
	// HostBootstrapPendingReason: the bootstrap data was not delivered yet.
	HostBootstrapPendingReason = "Pending"
	// HostBootstrapRunningReason: the host runs the bootstrap data.
	HostBootstrapRunningReason = "Running"
	// HostBootstrapSucceededReason: the host joined.
	HostBootstrapSucceededReason = "Succeeded"
	// HostBootstrapFailedReason: the bootstrap data failed; the machine must be replaced.
	HostBootstrapFailedReason = "BootstrapFailed"
	// HostBootstrapDataInvalidReason: the bootstrap data can't be carried out.
	HostBootstrapDataInvalidReason = "BootstrapDataInvalid"
	// HostBootstrapDataMissingReason: the bootstrap Secret, or its value, is not there.
	HostBootstrapDataMissingReason = "BootstrapDataMissing"
)

// SecretKeyReference names one key of a Secret in the object's own namespace.
type SecretKeyReference struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// key in the Secret's data.
	// +optional
	// +kubebuilder:default=ssh-privatekey
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
}

// SSHAccess says how to log in to the operating system of a host, and how to know that it is the right host.
type SSHAccess struct {
	// address is an IP address or a DNS name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="isIP(self) || self.matches('^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?([.][a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*$')",message="address must be an IP address or a DNS name, without a port; the port goes into spec.ssh.port"
	Address string `json:"address"`

	// port of the SSH server.
	// +optional
	// +kubebuilder:default=22
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// user to log in as; anybody but root needs sudo without a password.
	// +optional
	// +kubebuilder:default=root
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z_][a-z0-9_-]*$')",message="user must be a POSIX user name: a-z, 0-9, - and _, not beginning with a digit"
	User string `json:"user,omitempty"`

	// privateKeySecretRef names the private key, PEM or OpenSSH format and without a passphrase, in the host's namespace.
	// +required
	PrivateKeySecretRef SecretKeyReference `json:"privateKeySecretRef"`

	// hostKeys are the only keys the host may present, each as in the host's /etc/ssh/ssh_host_ed25519_key.pub:
	// "ssh-ed25519 AAAA… comment". Without one no connection is made.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=4096
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.matches('^(ssh|ecdsa|sk)-[-a-z0-9@.]+ [A-Za-z0-9+/]+={0,2}( .*)?$'))",message="each host key must be a line of the host's /etc/ssh/ssh_host_*_key.pub, such as 'ssh-ed25519 AAAA… comment'; fingerprints are not enough to choose the key type by"
	HostKeys []string `json:"hostKeys,omitempty"`
}

// RackHostSpec is what an administrator says about a host. Labels of the object are what machines select by.
type RackHostSpec struct {
	// ssh is the way to the host's operating system. Changes are used from the next connection on.
	// +required
	SSH SSHAccess `json:"ssh"`

	// taints keep machines away that don't tolerate them. They are not put on the Node; set those in the
	// KubeadmConfigTemplate.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(t, size(t.key) > 0 && t.effect in ['NoSchedule', 'PreferNoSchedule', 'NoExecute'])",message="a taint needs a key, and effect NoSchedule, PreferNoSchedule or NoExecute"
	Taints []corev1.Taint `json:"taints,omitempty"`

	// failureDomain is the rack, room or power feed that fails as one; it is offered to Machines as such.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	FailureDomain string `json:"failureDomain,omitempty"`

	// cleanPolicy says how the host is made fit for the next claim.
	// +optional
	// +kubebuilder:default=Reset
	CleanPolicy CleanPolicy `json:"cleanPolicy,omitempty"`

	// unavailable keeps the host from being given to a machine, for maintenance. A machine that has it keeps it.
	// +optional
	Unavailable bool `json:"unavailable,omitempty"`
}

// HostDisk is one whole block device.
type HostDisk struct {
	// name as in /dev/<name>.
	// +required
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`
	// size in bytes.
	// +optional
	Size resource.Quantity `json:"size,omitempty,omitzero"`
	// rotational tells a spinning disk.
	// +optional
	Rotational bool `json:"rotational,omitempty"`
}

// HostFacts are what the host said about itself when it was last looked at.
type HostFacts struct {
	// hostname is the host's own name.
	// +optional
	Hostname string `json:"hostname,omitempty"`
	// cpus is the number of online logical processors.
	// +optional
	CPUs int32 `json:"cpus,omitempty"`
	// memory in bytes.
	// +optional
	Memory resource.Quantity `json:"memory,omitempty,omitzero"`
	// disks are the whole block devices.
	// +optional
	// +listType=atomic
	Disks []HostDisk `json:"disks,omitempty"`
	// addresses are the host's IP addresses of global scope.
	// +optional
	// +listType=atomic
	Addresses []string `json:"addresses,omitempty"`
	// os is the operating system's own name and version.
	// +optional
	OS string `json:"os,omitempty"`
	// kernel release.
	// +optional
	Kernel string `json:"kernel,omitempty"`
	// architecture in Kubernetes' terms: amd64, arm64.
	// +optional
	Architecture string `json:"architecture,omitempty"`
	// machineID is /etc/machine-id.
	// +optional
	MachineID string `json:"machineID,omitempty"`
	// bootID changes with every boot.
	// +optional
	BootID string `json:"bootID,omitempty"`
	// kubeadmVersion installed on the host, e.g. v1.36.3; empty when there is none.
	// +optional
	KubeadmVersion string `json:"kubeadmVersion,omitempty"`
}

// HostClaimReference is the claim that holds the host.
type HostClaimReference struct {
	// id is the claim's own, the last part of the providerID.
	// +required
	ID string `json:"id"`
	// machine is the name of the RackMachine.
	// +optional
	Machine string `json:"machine,omitempty"`
	// cluster is the name of the Cluster.
	// +optional
	Cluster string `json:"cluster,omitempty"`
}

// HostOperationType is what an operation does to a host.
// +kubebuilder:validation:Enum=Bootstrap;Reset
type HostOperationType string

const (
	// HostOperationBootstrap runs bootstrap data.
	HostOperationBootstrap HostOperationType = "Bootstrap"
	// HostOperationReset takes Kubernetes off the host.
	HostOperationReset HostOperationType = "Reset"
)

// HostOperation is the last long-running operation on a host.
type HostOperation struct {
	// type of the operation.
	// +required
	Type HostOperationType `json:"type"`
	// id under which the host knows it.
	// +required
	ID string `json:"id"`
	// state is Running, Succeeded, Failed or Interrupted.
	// +optional
	State string `json:"state,omitempty"`
	// step is the action being performed, or the last one.
	// +optional
	Step string `json:"step,omitempty"`
	// startedAt is when the operation was started.
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`
	// finishedAt is when its end was seen.
	// +optional
	FinishedAt *metav1.Time `json:"finishedAt,omitempty"`
}

// RackHostStatus is the observed state of a host. All of it can be rebuilt from the claim and the host.
type RackHostStatus struct {
	// conditions are Ready, HostKeyVerified, SSHReachable, Clean and, with a claim, Bootstrapped.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// phase is where the host is in its life.
	// +optional
	Phase HostPhase `json:"phase,omitempty"`

	// claim is the RackHostClaim that holds the host.
	// +optional
	Claim *HostClaimReference `json:"claim,omitempty"`

	// facts are what the host said about itself.
	// +optional
	Facts *HostFacts `json:"facts,omitempty"`

	// lastOperation is the bootstrap or reset that runs or ran last.
	// +optional
	LastOperation *HostOperation `json:"lastOperation,omitempty"`
}

// RackHost is one physical or existing machine that can become a Node.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=rackhosts,scope=Namespaced,shortName=rh,categories=cluster-api
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:metadata:labels="cluster.x-k8s.io/v1beta2=v1alpha1"
// +kubebuilder:metadata:labels="clusterctl.cluster.x-k8s.io/move="
// +kubebuilder:printcolumn:name="Phase",type="string",JSONPath=".status.phase"
// +kubebuilder:printcolumn:name="Ready",type="string",JSONPath=".status.conditions[?(@.type=='Ready')].status"
// +kubebuilder:printcolumn:name="Reason",type="string",JSONPath=".status.conditions[?(@.type=='Ready')].reason"
// +kubebuilder:printcolumn:name="Address",type="string",JSONPath=".spec.ssh.address"
// +kubebuilder:printcolumn:name="Cluster",type="string",JSONPath=".status.claim.cluster"
// +kubebuilder:printcolumn:name="Machine",type="string",JSONPath=".status.claim.machine"
// +kubebuilder:printcolumn:name="CPUs",type="integer",JSONPath=".status.facts.cpus"
// +kubebuilder:printcolumn:name="Memory",type="string",JSONPath=".status.facts.memory"
// +kubebuilder:printcolumn:name="OS",type="string",JSONPath=".status.facts.os",priority=1
// +kubebuilder:printcolumn:name="FailureDomain",type="string",JSONPath=".spec.failureDomain",priority=1
// +kubebuilder:printcolumn:name="Message",type="string",JSONPath=".status.conditions[?(@.type=='Ready')].message",priority=1
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
type RackHost struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// +required
	Spec RackHostSpec `json:"spec,omitempty"`
	// +optional
	Status RackHostStatus `json:"status,omitempty"`
}

// GetConditions returns status.conditions; Cluster API's condition helpers need it.
func (h *RackHost) GetConditions() []metav1.Condition { return h.Status.Conditions }

// SetConditions replaces status.conditions.
func (h *RackHost) SetConditions(conditions []metav1.Condition) { h.Status.Conditions = conditions }

// RackHostList is a list of RackHosts.
//
// +kubebuilder:object:root=true
type RackHostList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []RackHost `json:"items"`
}
