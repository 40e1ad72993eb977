// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Conditions of a TenantControlPlane, in the order of the steps they report; Ready sums them up.
const (
	// StorageReadyCondition: the tenant has a user and its own place in the datastore.
	StorageReadyCondition = "StorageReady"
	// AddressReadyCondition: it is known where clients and nodes reach the API server.
	AddressReadyCondition = "AddressReady"
	// CertificatesReadyCondition: all keys and certificates exist and are fresh.
	CertificatesReadyCondition = "CertificatesReady"
	// KubeconfigsReadyCondition: all kubeconfigs exist and are fresh.
	KubeconfigsReadyCondition = "KubeconfigsReady"
	// WorkloadReadyCondition: the wanted version is rolled out and serves.
	WorkloadReadyCondition = "WorkloadReady"
	// TenantConfiguredCondition: documents, permissions and addons in the tenant cluster are current.
	TenantConfiguredCondition = "TenantConfigured"
	// VersionReachedCondition: the wanted version of Kubernetes is the one that runs.
	VersionReachedCondition = "VersionReached"
	// RoutedCondition: the API server is published as asked for; TLSRoutes were accepted.
	RoutedCondition = "Routed"
	// AuthorityRotatingCondition: an authority or the key of tokens is being replaced, and what that waits for. It is
	// False with RotationRefusedReason when it can't begin, and absent otherwise. It is no part of Ready.
	AuthorityRotatingCondition = "CertificateAuthorityRotating"
	// MigratingCondition: the state is being moved to another DataStore, or was. It
	// exists only for tenants that were asked to move.
	MigratingCondition = "Migrating"
	// DeletingCondition: says what the deletion waits for.
	DeletingCondition = "Deleting"
)

// Reasons of the conditions of a TenantControlPlane.
const (
	// DataStoreMissingReason: no DataStore is named, or the named one doesn't exist.
	DataStoreMissingReason = "DataStoreMissing"
	// DataStoreFullReason: the DataStore has as many tenants as it takes.
	DataStoreFullReason = "DataStoreFull"
	// NoDataStoreFitsReason: none of the selected DataStores takes another tenant.
	NoDataStoreFitsReason = "NoDataStoreFits"
	// DataStoreNotReadyReason: the DataStore can't be used at present.
	DataStoreNotReadyReason = "DataStoreNotReady"
	// GatewayPendingReason: the gateway has not yet allocated name, addresses and port.
	GatewayPendingReason = "GatewayPending"
	// AddressPendingReason: the Service has no address yet.
	AddressPendingReason = "AddressPending"
	// UnsupportedExposureReason: the API server can't be published in the way asked for.
	UnsupportedExposureReason = "UnsupportedExposure"
	// GatewayAPIMissingReason: the management cluster has no TLSRoute v1.
	GatewayAPIMissingReason = "GatewayAPIMissing"
	// RoutePendingReason: the Gateway is missing or has not answered yet.
	RoutePendingReason = "RoutePending"
	// RouteRejectedReason: the Gateway can't lead clients to the API server.
	RouteRejectedReason = "RouteRejected"
	// InvalidVersionReason: the version can't be parsed or isn't supported.
	InvalidVersionReason = "InvalidVersion"
	// InvalidSpecReason: a field has a value that can't be used.
	InvalidSpecReason = "InvalidSpec"
	// StartQueuedReason: other control planes start at the moment, as many as the nodes can boot.
	StartQueuedReason = "StartQueued"
	// InternalCAMissingReason: the ConfigMap with the certificate authorities of the user doesn't exist.
	InternalCAMissingReason = "InternalCAMissing"
	// RolloutInProgressReason: pods of the wanted version are being started.
	RolloutInProgressReason = "RolloutInProgress"
	// ChangePendingReason: pods of another change are being started; the next change follows when they serve.
	ChangePendingReason = "ChangePending"
	// RolloutFailedReason: pods of the wanted version don't become ready.
	RolloutFailedReason = "RolloutFailed"
	// PreflightFailedReason: the wanted version would not start, or break something, and is not rolled out.
	PreflightFailedReason = "PreflightFailed"
	// UpgradeFailedReason: pods of the wanted version did not get ready, and the version before was restored.
	UpgradeFailedReason = "UpgradeFailed"
	// SleepingReason: scaled to zero on request.
	SleepingReason = "Sleeping"
	// TenantUnreachableReason: the tenant's API server doesn't answer the engine.
	TenantUnreachableReason = "TenantUnreachable"
	// NamespaceTerminatingReason: the namespace is being deleted, so that nothing can be made in it.
	NamespaceTerminatingReason = "NamespaceTerminating"
	// ForeignObjectReason: an object with a needed name belongs to somebody else.
	ForeignObjectReason = "ForeignObject"
	// AuthorityUnusableReason: the authority that spec.certificates names can't be used, and there is no other.
	AuthorityUnusableReason = "AuthorityUnusable"
	// PublicCertificatePendingReason: the certificate for additional host names isn't there or can't be used.
	PublicCertificatePendingReason = "PublicCertificatePending"
	// CorruptSecretReason: an authority or key can't be read, and nothing is left to repair it from.
	CorruptSecretReason = "CorruptSecret"
)

// MonitoredCondition of a TenantControlPlane with spec.controlPlane.monitoring: the
// PodMonitor is there. It is no part of Ready.
const MonitoredCondition = "Monitored"

// Reasons of MonitoredCondition, beside ForeignObjectReason and those of package phase.
const (
	// PodMonitorAppliedReason: the PodMonitor is as it should be.
	PodMonitorAppliedReason = "PodMonitorApplied"
	// PodMonitorMissingReason: the management cluster has no such kind.
	PodMonitorMissingReason = "PodMonitorMissing"
)

// Reasons of AuthorityRotatingCondition.
const (
	// TrustingNextReason: the next one is being made known everywhere; the present one signs.
	TrustingNextReason = "TrustingNext"
	// RetiringReason: the next one signs; the former one is trusted until nobody needs it.
	RetiringReason = "Retiring"
	// RotationRefusedReason: a rotation that was asked for can't begin.
	RotationRefusedReason = "RotationRefused"
)

// Reasons of MigratingCondition; a failed migration has those of package migration.
const (
	// PreparingTargetReason: the target is made ready, writes go on.
	PreparingTargetReason = "PreparingTarget"
	// FrozenReason: writes are refused while the data is copied and compared.
	FrozenReason = "Frozen"
	// StoppingPodsReason: the pods of the old store end.
	StoppingPodsReason = "StoppingPods"
	// StartingReason: pods start with the new store.
	StartingReason = "Starting"
	// CleaningSourceReason: the data in the old store is deleted, writes go on.
	CleaningSourceReason = "CleaningSource"
	// ReturningReason: the tenant returns to its old store.
	ReturningReason = "Returning"
	// MigratedReason: the tenant was moved.
	MigratedReason = "Migrated"
)

// Conditions of a DataStore.
const (
	// DataStoreValidCondition: the referenced Secrets exist and hold what they should.
	DataStoreValidCondition = "kamaji.clastix.io/DataStoreValidation"
	// DataStoreAllowedDeletionCondition: no tenant uses the store.
	DataStoreAllowedDeletionCondition = "kamaji.clastix.io/DataStoreAllowedDeletion"
	// DataStoreReachableCondition: the engine could connect, authenticate, and tenants are kept apart.
	DataStoreReachableCondition = "kamaji.clastix.io/DataStoreReachable"
)

// Reasons of the conditions of a DataStore.
const (
	// DataStoreIsValidReason of DataStoreValidCondition.
	DataStoreIsValidReason = "DataStoreIsValid"
	// MissingConditionReason of DataStoreValidCondition: it was not checked yet.
	MissingConditionReason = "MissingCondition"
	// BasicAuthValidationFailedReason of DataStoreValidCondition: username or password can't be read.
	BasicAuthValidationFailedReason = "BasicAuthValidationFailed"
	// TLSConfigurationValidationFailedReason of DataStoreValidCondition: a certificate or key can't be read.
	TLSConfigurationValidationFailedReason = "TLSConfigurationValidationFailed"
	// DataStoreStillUsedReason of DataStoreAllowedDeletionCondition.
	DataStoreStillUsedReason = "DataStoreStillUsed"
	// DataStoreUnusedReason of DataStoreAllowedDeletionCondition.
	DataStoreUnusedReason = "DataStoreUnused"
	// DataStoreConnectedReason of DataStoreReachableCondition.
	DataStoreConnectedReason = "Connected"
	// DataStoreUnreachableReason of DataStoreReachableCondition: no endpoint answered.
	DataStoreUnreachableReason = "Unreachable"
	// DataStoreAuthDisabledReason of DataStoreReachableCondition: the store doesn't authenticate, so tenants would see each other's data.
	DataStoreAuthDisabledReason = "AuthDisabled"
)
