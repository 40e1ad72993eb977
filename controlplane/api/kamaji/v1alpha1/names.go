// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Annotations that users and other tools set or read.
const (
	// PausedAnnotation stops reconciliation of a TenantControlPlane or DataStore.
	// Its presence is enough.
	PausedAnnotation = "kamaji.clastix.io/paused"

	// AwakeUntilAnnotation on a TenantControlPlane with spec.controlPlane.kamajiGateway.wake
	// is until when it is awake although its replicas are 0 (RFC 3339). Clients that
	// wake it have it written; whoever may write the object may do so, too.
	AwakeUntilAnnotation = "kamaji.clastix.io/awake-until"

	// ChecksumAnnotation holds the hash of the data of a managed Secret or ConfigMap.
	ChecksumAnnotation = "kamaji.clastix.io/checksum"

	// RotateAnnotation on a certificate or kubeconfig Secret requests new contents
	// when it is empty; it then becomes the RFC 3339 time of the rotation. On
	// authorities and the key of ServiceAccount tokens it begins a rotation in steps,
	// in which the old and the new one are trusted.
	RotateAnnotation = "certs.kamaji.clastix.io/rotate"

	// RetireAnnotation on the Secret of an authority, or of the key of ServiceAccount
	// tokens, says when its rotation ends: RetireNow, RetireHold, or, without it, once
	// it is proven that nobody needs the former one. RetireNow becomes the RFC 3339
	// time at which the former one was dropped.
	RetireAnnotation = "certs.kamaji.clastix.io/retire"

	// RetireNow drops the former authority or key as soon as the next one is in use,
	// whoever still needs it.
	RetireNow = "now"

	// RetireHold keeps the former authority until the annotation changes.
	RetireHold = "hold"

	// RetireAfterAnnotation there, a duration such as 8760h, keeps the former one for
	// that long after the next one is in use everywhere, and drops it then unless it is
	// known who needs it.
	RetireAfterAnnotation = "certs.kamaji.clastix.io/retire-after"

	// RetiringSinceAnnotation there is the RFC 3339 time since when the next one is in
	// use everywhere. The engine writes it.
	RetiringSinceAnnotation = "certs.kamaji.clastix.io/retiring-since"

	// AuthorityAnnotation on a Node of a tenant holds the fingerprint of the authority
	// that it has joined with, noted during a rotation.
	AuthorityAnnotation = "certs.kamaji.clastix.io/authority"

	// KubeconfigSecretKeyAnnotation on a TenantControlPlane names the key of the
	// admin kubeconfig Secret that automation uses, by default super-admin.conf.
	KubeconfigSecretKeyAnnotation = "kamaji.clastix.io/kubeconfig-secret-key"

	// CleanupPriorMigrationAnnotation on a TenantControlPlane, with the value
	// "true", lets a migration delete what the tenant's schema in the target holds.
	CleanupPriorMigrationAnnotation = "kamaji.clastix.io/cleanup-prior-migration"

	// MigrationTimeoutAnnotation on a TenantControlPlane is how long a migration may
	// refuse writes before the tenant returns to its old store, as a Go duration.
	MigrationTimeoutAnnotation = "kamaji.clastix.io/migration-timeout"

	// MigrationMinimumFreezeAnnotation on a TenantControlPlane is how long a
	// migration refuses writes at least before the tenant leaves its old store, as a
	// Go duration.
	MigrationMinimumFreezeAnnotation = "kamaji.clastix.io/migration-minimum-freeze"

	// DeleteMigrationSourceAnnotation on a TenantControlPlane, with the value
	// "true", deletes the data in the old store once the tenant serves from the new
	// one. Without it the old copy stays until the tenant is deleted.
	DeleteMigrationSourceAnnotation = "kamaji.clastix.io/delete-migration-source"

	// MigrationAttemptAnnotation on a TenantControlPlane repeats a migration that
	// has failed, whenever its value changes.
	MigrationAttemptAnnotation = "kamaji.clastix.io/migration-attempt"

	// DataStoreAnnotation on the Secret with the database configuration names the
	// DataStore that it leads to.
	DataStoreAnnotation = "kamaji.clastix.io/datastore"

	// EnableEtcdAuthAnnotation with the value "true" on a DataStore permits the
	// engine to create the root user and role of an etcd and to turn on its
	// authentication. Without authentication any tenant could read all others.
	EnableEtcdAuthAnnotation = "kamaji.clastix.io/enable-etcd-auth"

	// ComponentChecksumPrefix begins the pod template labels that hold the hash of
	// a Secret; what the Secret is for follows.
	ComponentChecksumPrefix = "component.kamaji.clastix.io/"
)

// Labels of managed objects.
const (
	// ProjectLabel marks every managed object; its value is ProjectLabelValue.
	ProjectLabel = "kamaji.clastix.io/project"

	// ProjectLabelValue is the value of ProjectLabel.
	ProjectLabelValue = "kamaji"

	// NameLabel holds the name of the TenantControlPlane. Together with the
	// namespace it selects the pods of a tenant.
	NameLabel = "kamaji.clastix.io/name"

	// ComponentLabel names the part of the tenant an object belongs to.
	ComponentLabel = "kamaji.clastix.io/component"

	// CertificateLifecycleLabel marks Secrets that hold something which expires.
	CertificateLifecycleLabel = "kamaji.clastix.io/certificate_lifecycle_controller"

	// CertificateLifecycleX509 is the CertificateLifecycleLabel of plain certificates.
	CertificateLifecycleX509 = "x509"

	// CertificateLifecycleKubeconfig is the CertificateLifecycleLabel of kubeconfigs.
	CertificateLifecycleKubeconfig = "kubeconfig"

	// ManagedByLabel on a generated kubeconfig Secret names the KubeconfigGenerator.
	ManagedByLabel = "kamaji.clastix.io/managed-by"

	// ManagedForLabel on a generated kubeconfig Secret names the TenantControlPlane.
	ManagedForLabel = "kamaji.clastix.io/managed-for"
)

// Finalizers.
const (
	// DataStoreCleanupFinalizer on a TenantControlPlane: its data and database
	// user still have to be removed from the datastore.
	DataStoreCleanupFinalizer = "finalizer.kamaji.clastix.io"

	// TenantAccessFinalizer on a TenantControlPlane was set by earlier engines
	// that ran a manager per tenant. It is only ever removed.
	TenantAccessFinalizer = "finalizer.kamaji.clastix.io/soot"

	// DataStoreSecretFinalizer on the datastore-config Secret: it is needed until
	// the tenant's data is gone.
	DataStoreSecretFinalizer = "finalizer.kamaji.clastix.io/datastore-secret"

	// DataStoreInUseFinalizer on a DataStore: tenants still use it.
	DataStoreInUseFinalizer = "kamaji.clastix.io/TenantControlPlane"
)
