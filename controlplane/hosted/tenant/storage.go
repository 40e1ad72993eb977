// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/clientcert"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// backend is one DataStore that a tenant uses, opened.
type backend struct {
	store   *kamajiv1alpha1.DataStore
	config  storage.Config
	driver  storage.Driver
	release func()
	// resource is what is kept there, empty for everything else.
	resource string
}

// store gives the tenant its place in the datastore and the credentials for it.
// The Service is applied meanwhile: neither needs the other, and both take a
// round trip or several.
func (r *Reconciler) store(ctx context.Context, s *scope) error {
	if err := s.read(ctx, r.Client); err != nil {
		return err
	}
	if err := r.choose(ctx, s.tenant); err != nil {
		return err
	}
	name, err := r.relocate(ctx, s)
	if err != nil {
		return err
	}
	backends, err := r.backends(ctx, s.tenant, name)
	defer release(backends)
	if err != nil {
		return err
	}
	s.ailing = ailing(backends)
	if err := r.hold(ctx, s.tenant); err != nil {
		return err
	}
	credentials, err := r.credentials(ctx, s, backends)
	if err != nil {
		return err
	}
	service := make(chan error, 1)
	go func() { service <- r.applyService(ctx, s) }()
	err = r.ensure(ctx, s, backends, credentials)
	if serviceErr := <-service; err == nil {
		err = serviceErr
	}
	return err
}

// backends opens the DataStores of a tenant, the main one first. Those already
// opened are returned with an error too, to be released.
func (r *Reconciler) backends(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane, name string) ([]backend, error) {
	if name == "" {
		return nil, phase.Wait(kamajiv1alpha1.DataStoreMissingReason,
			"spec.dataStore is empty and this installation has no default: name a DataStore")
	}
	const etcd = string(kamajiv1alpha1.DriverEtcd)
	var opened []backend
	main, err := r.open(ctx, tenant, name, "")
	if err != nil {
		return nil, err
	}
	opened = append(opened, main)
	for _, override := range tenant.Spec.DataStoreOverrides {
		b, err := r.open(ctx, tenant, override.DataStore, override.Resource)
		if err != nil {
			return opened, err
		}
		opened = append(opened, b)
		// kube-apiserver has the same TLS settings for all of its etcd servers, and kine's socket has no TLS.
		if (b.config.Driver != etcd || main.config.Driver != etcd) && tenant.DeletionTimestamp.IsZero() {
			return opened, phase.Fatal(kamajiv1alpha1.InvalidSpecReason,
				"spec.dataStoreOverrides: DataStore %s for %s must be an etcd, and so must %s: kube-apiserver can't reach kine and an etcd at once", override.DataStore, override.Resource, name)
		}
	}
	return opened, nil
}

func (r *Reconciler) open(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane, name, resource string) (backend, error) {
	store := &kamajiv1alpha1.DataStore{}
	err := r.Client.Get(ctx, client.ObjectKey{Name: name}, store)
	deleting := !tenant.DeletionTimestamp.IsZero()
	switch {
	case apierrors.IsNotFound(err):
		return backend{}, phase.Wait(kamajiv1alpha1.DataStoreMissingReason, "DataStore %s does not exist: create it, or name another in spec.dataStore", name)
	case err != nil:
		return backend{}, fmt.Errorf("reading DataStore %s: %w", name, err)
	case deleting:
	case !store.DeletionTimestamp.IsZero() && tenant.Status.Storage.Setup.Schema == "":
		return backend{}, phase.Wait(kamajiv1alpha1.DataStoreNotReadyReason, "DataStore %s is being deleted: name another in spec.dataStore", name)
	case !store.Status.Ready && tenant.Status.Storage.Setup.Schema == "":
		return backend{}, phase.Wait(kamajiv1alpha1.DataStoreNotReadyReason, "DataStore %s is not ready: %s", name, whyNotReady(store))
	default:
		if err := r.room(ctx, tenant, store); err != nil {
			return backend{}, err
		}
	}
	config, driver, done, err := r.Storage.Open(ctx, r.Secrets, store)
	if err != nil {
		return backend{}, r.verdict(tenant, err)
	}
	return backend{store: store, config: config, driver: driver, release: done, resource: resource}, nil
}

func whyNotReady(store *kamajiv1alpha1.DataStore) string {
	if c := meta.FindStatusCondition(store.Status.Conditions, phase.Ready); c != nil {
		return c.Message
	}
	return "it was not probed yet"
}

func release(backends []backend) {
	for _, b := range backends {
		b.release()
	}
}

// verdict keeps the reasons of the storage layer as condition reasons. What may
// pass is retried less and less often: many tenants share one store. A schema
// that is taken may become free when its owner is deleted.
func (r *Reconciler) verdict(tenant *kamajiv1alpha1.TenantControlPlane, err error) error {
	reason := string(storage.ReasonOf(err))
	switch {
	case err == nil:
		return nil
	case storage.IsPermanent(err) && storage.ReasonOf(err) != storage.ReasonTaken:
		return phase.Fatal(reason, "%v", err)
	default:
		key := memoryKey{tenant: client.ObjectKeyFromObject(tenant), task: taskStorage}
		return phase.WaitFor(r.memory.backOff(key, time.Second, resyncEvery), reason, "%v", err)
	}
}

// identity is who the tenant is in its datastores. It depends on nothing that
// can be lost: the spec, or what was recorded, or the UID.
func identity(tenant *kamajiv1alpha1.TenantControlPlane) storage.Tenant {
	return storage.Tenant{
		Owner:  client.ObjectKeyFromObject(tenant).String(),
		Schema: tenant.Schema(),
		User:   tenant.StorageUser(),
	}
}

// ensure creates user and rights, or repairs them when that is due. The store is
// told a new password before the Secret holds it; a pass that ends in between is
// followed by one that makes another.
func (r *Reconciler) ensure(ctx context.Context, s *scope, backends []backend, credentials storage.Credentials) error {
	id := identity(s.tenant)
	key := memoryKey{tenant: client.ObjectKeyFromObject(s.tenant), task: taskStorage}
	var inputs []string
	for _, b := range backends {
		inputs = append(inputs, b.config.Hash())
	}
	inputs = append(inputs, string(s.tenant.UID), id.Schema, id.User)
	checksum := digest(inputs...)
	inputs = append(inputs, digest(credentials.Password, string(credentials.Login)))
	done, next := r.memory.done(key, inputs, s.now)
	if !done {
		for _, b := range backends {
			if !b.store.Status.Ready {
				// Its recovery wakes all tenants; until then nobody needs to dial.
				return phase.Wait(kamajiv1alpha1.DataStoreNotReadyReason, "DataStore %s is not ready: %s", b.store.Name, whyNotReady(b.store))
			}
			if err := r.verdict(s.tenant, b.driver.EnsureTenant(ctx, id, credentials)); err != nil {
				return err
			}
		}
		next = r.memory.remember(key, inputs, s.now)
	}
	s.due(next)

	setup := &s.tenant.Status.Storage.Setup
	if setup.Checksum != checksum || setup.Schema != id.Schema || setup.User != id.User {
		*setup = kamajiv1alpha1.StorageSetupStatus{Schema: id.Schema, User: id.User, LastUpdate: metav1.NewTime(s.now), Checksum: checksum}
	}
	s.tenant.Status.Storage.Driver = backends[0].config.Driver
	s.tenant.Status.Storage.DataStoreName = backends[0].store.Name
	return nil
}

// credentials fills the Secrets with which the API server reaches its data.
func (r *Reconciler) credentials(ctx context.Context, s *scope, backends []backend) (storage.Credentials, error) {
	main := backends[0]
	id := identity(s.tenant)
	var credentials storage.Credentials
	err := r.generate(ctx, s, func() (bool, error) {
		current := s.heldCredentials()
		var err error
		if len(backends) > 1 {
			credentials, err = clientcert.Shared(id, current, s.now, configs(backends)...)
		} else {
			credentials, err = main.driver.Credentials(id, current, s.now)
		}
		changed := !bytes.Equal(credentials.Certificate, current.Certificate) || credentials.Password != current.Password ||
			!bytes.Equal(credentials.Login, current.Login)
		return changed, r.verdict(s.tenant, err)
	})
	if err != nil {
		return credentials, err
	}
	r.storageInputs(s, backends, credentials)
	return credentials, nil
}

func configs(backends []backend) []storage.Config {
	out := make([]storage.Config, 0, len(backends))
	for _, b := range backends {
		out = append(out, b.config)
	}
	return out
}

// storageInputs is what the workload needs to know of its datastores.
func (r *Reconciler) storageInputs(s *scope, backends []backend, credentials storage.Credentials) {
	main, id := backends[0], identity(s.tenant)
	files := map[string][]byte{}
	for name, content := range map[string][]byte{
		"ca.crt": credentials.CA, "server.crt": credentials.Certificate, "server.key": credentials.Key, storage.LoginFile: credentials.Login,
	} {
		if len(content) > 0 {
			files[name] = content
		}
	}
	if len(files) > 0 {
		s.secrets[pki.DataStore] = files
	}
	config := map[string][]byte{
		"DB_CONNECTION_STRING": []byte(strings.Join(main.config.Endpoints, ",")),
		"DB_SCHEMA":            []byte(id.Schema), "DB_USER": []byte(id.User),
		// Where a client certificate or a login takes its place, it is empty.
		"DB_PASSWORD": []byte(credentials.Password),
	}
	s.secrets[desired.StorageConfig] = config
	s.storage = desired.Storage{Name: main.store.Name, Endpoints: main.config.Endpoints, Schema: id.Schema}
	if endpoint := main.driver.Endpoint(id, credentials); endpoint != "" {
		config[desired.KineEndpoint] = []byte(endpoint)
		s.storage.Kine = cmp.Or(r.KineImage, desired.KineImage)
		return
	}
	config["DB_CONNECTION_STRING"] = []byte("https://" + strings.Join(main.config.Endpoints, ",https://"))
	for _, b := range backends[1:] {
		s.storage.Overrides = append(s.storage.Overrides, desired.StorageOverride{Resource: b.resource, Endpoints: b.config.Endpoints})
	}
}

// heldCredentials are those in the Secrets, but for what shall be replaced.
func (s *scope) heldCredentials() storage.Credentials {
	var held storage.Credentials
	if !s.rotate[pki.DataStore] {
		pair := s.existing[pki.DataStore]
		held.CA, held.Certificate, held.Key = pair["ca.crt"], pair["server.crt"], pair["server.key"]
	}
	if !s.rotate[desired.StorageConfig] {
		held.Password = string(s.existing[desired.StorageConfig]["DB_PASSWORD"])
	}
	// Like a password it never ends by itself, and like a certificate it is a file.
	if !s.rotate[desired.StorageConfig] && !s.rotate[pki.DataStore] {
		held.Login = s.existing[pki.DataStore][storage.LoginFile]
	}
	return held
}

// hold puts the finalizer on before anything exists in the datastore. A gateway writes the status of a new tenant at the
// same moment, so the cached object is often not the latest; then the API server's is taken.
func (r *Reconciler) hold(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane) error {
	latest := tenant.DeepCopy()
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		before := latest.DeepCopy()
		if !controllerutil.AddFinalizer(latest, kamajiv1alpha1.DataStoreCleanupFinalizer) {
			return nil
		}
		conflict := phase.PatchFinalizers(ctx, r.Client, before, latest)
		if !apierrors.IsConflict(conflict) {
			return conflict
		}
		// Into an empty object: one without finalizers has no such field, and the one just added would seem to be there.
		latest = &kamajiv1alpha1.TenantControlPlane{}
		if err := r.Live.Get(ctx, client.ObjectKeyFromObject(tenant), latest); err != nil {
			return fmt.Errorf("reading TenantControlPlane %s: %w", client.ObjectKeyFromObject(tenant), err)
		}
		if latest.UID != tenant.UID || !latest.DeletionTimestamp.IsZero() {
			return phase.Wait(stoppingReason, "the object was deleted meanwhile")
		}
		return conflict
	})
	if err == nil {
		tenant.Finalizers, tenant.ResourceVersion = latest.Finalizers, latest.ResourceVersion
	}
	return err
}

// applyService makes the Service, whose address the certificates need.
func (r *Reconciler) applyService(ctx context.Context, s *scope) error {
	service := desired.Service(s.tenant)
	set(s.tenant, false).Label([]client.Object{service})
	if _, err := r.writer(s.live).Apply(ctx, service); err != nil {
		return explain(err)
	}
	s.service = service
	s.tenant.Status.Kubernetes.Service = kamajiv1alpha1.KubernetesServiceStatus{
		ServiceStatus: *service.Status.DeepCopy(), Name: service.Name, Namespace: service.Namespace, Port: s.tenant.Port(),
	}
	return nil
}
