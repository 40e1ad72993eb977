// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"context"
	"net"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// Load resolves the Secrets that a DataStore refers to. Every error is an
// *Error that names the field, so that it can be shown as it is.
func Load(ctx context.Context, secrets client.Reader, store *kamajiv1alpha1.DataStore) (Config, error) {
	config := Config{
		Name:       store.Name,
		Driver:     string(store.Spec.Driver),
		Endpoints:  store.Spec.Endpoints,
		EnableAuth: store.Annotations[kamajiv1alpha1.EnableEtcdAuthAnnotation] == "true",
	}
	for i, endpoint := range store.Spec.Endpoints {
		if host, port, err := net.SplitHostPort(endpoint); err != nil || host == "" || port == "" || strings.Contains(host, "/") {
			return Config{}, Errorf(ReasonInvalid, "spec.endpoints[%d]: %q must be host:port, without a scheme", i, endpoint)
		}
	}
	if nats := store.Spec.NATS; nats != nil {
		config.NATS = &NATS{Replicas: int(ptr.Deref(nats.Replicas, 1))}
		if quota := nats.TenantStorage; quota != nil {
			if quota.Sign() <= 0 {
				return Config{}, Errorf(ReasonInvalid, "spec.nats.tenantStorage: %s must be more than nothing; leave it out for no limit", quota)
			}
			config.NATS.TenantStorage = quota.Value()
		}
	}
	known := map[types.NamespacedName]*corev1.Secret{}
	for _, f := range contents(store, &config) {
		if f.ref == nil {
			continue
		}
		value, err := read(ctx, secrets, known, f.path, f.ref)
		if err != nil {
			return Config{}, err
		}
		f.set(value)
	}
	return config, nil
}

// SecretsOf lists the Secrets that a DataStore refers to, each once.
func SecretsOf(store *kamajiv1alpha1.DataStore) []types.NamespacedName {
	var names []types.NamespacedName
	seen := map[types.NamespacedName]bool{}
	for _, f := range contents(store, &Config{}) {
		if f.ref == nil || len(f.ref.Content) > 0 || f.ref.SecretRef == nil {
			continue
		}
		name := types.NamespacedName{Namespace: f.ref.SecretRef.Namespace, Name: f.ref.SecretRef.Name}
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

type content struct {
	path string
	ref  *kamajiv1alpha1.ContentRef
	set  func([]byte)
}

// contents pairs every ContentRef of a DataStore with the field of config that
// takes its value.
func contents(store *kamajiv1alpha1.DataStore, config *Config) []content {
	var list []content
	if auth := store.Spec.BasicAuth; auth != nil {
		list = append(list,
			content{"spec.basicAuth.username", &auth.Username, func(b []byte) { config.Username = strings.TrimSpace(string(b)) }},
			content{"spec.basicAuth.password", &auth.Password, func(b []byte) { config.Password = strings.TrimSpace(string(b)) }})
	}
	if nats := store.Spec.NATS; nats != nil {
		list = append(list,
			content{"spec.nats.operatorSeed", &nats.OperatorSeed, func(b []byte) { config.NATS.OperatorSeed = bytes.TrimSpace(b) }},
			content{"spec.nats.systemCredentials", &nats.SystemCredentials, func(b []byte) { config.NATS.SystemCredentials = b }})
	}
	if tls := store.Spec.TLSConfig; tls != nil {
		list = append(list,
			content{"spec.tlsConfig.certificateAuthority.certificate", &tls.CertificateAuthority.Certificate, func(b []byte) { config.CA = b }},
			content{"spec.tlsConfig.certificateAuthority.privateKey", tls.CertificateAuthority.PrivateKey, func(b []byte) { config.CAKey = b }})
		if pair := tls.ClientCertificate; pair != nil {
			list = append(list,
				content{"spec.tlsConfig.clientCertificate.certificate", &pair.Certificate, func(b []byte) { config.Certificate = b }},
				content{"spec.tlsConfig.clientCertificate.privateKey", &pair.PrivateKey, func(b []byte) { config.Key = b }})
		}
	}
	return list
}

// read returns the value of ref. known keeps Secrets that several fields refer to.
func read(ctx context.Context, secrets client.Reader, known map[types.NamespacedName]*corev1.Secret, path string, ref *kamajiv1alpha1.ContentRef) ([]byte, error) {
	if len(ref.Content) > 0 {
		return ref.Content, nil
	}
	if ref.SecretRef == nil {
		return nil, Errorf(ReasonInvalid, "%s: set content or secretReference", path)
	}
	key := types.NamespacedName{Namespace: ref.SecretRef.Namespace, Name: ref.SecretRef.Name}
	secret := known[key]
	if secret == nil {
		secret = &corev1.Secret{}
		err := secrets.Get(ctx, key, secret)
		switch {
		case apierrors.IsNotFound(err):
			return nil, Errorf(ReasonMissingSecret, "%s: Secret %s does not exist", path, key)
		case err != nil:
			return nil, &Error{Reason: ReasonInternal, Message: path + ": reading Secret " + key.String(), Err: err}
		}
		known[key] = secret
	}
	value := secret.Data[ref.SecretRef.KeyPath]
	if len(value) == 0 {
		return nil, Errorf(ReasonMissingSecret, "%s: Secret %s has no key %q", path, key, ref.SecretRef.KeyPath)
	}
	return value, nil
}
