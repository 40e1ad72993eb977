// SPDX-License-Identifier: Apache-2.0

// Package remote gives access to the API servers of tenants: one uncached
// client for each, made when needed and dropped when idle. There are no
// informers, so what a tenant stores in its cluster costs us no memory.
package remote

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// requestTimeout bounds one request. A tenant that is slower is treated as
	// one that does not answer, and does not hold a worker any longer.
	requestTimeout = 10 * time.Second
	// dialTimeout is short because the address is one hop away, and because no
	// answer at all is normal: a Service that kube-proxy has not heard of yet.
	dialTimeout = 2 * time.Second
	// handshakeTimeout bounds the TLS handshake.
	handshakeTimeout = 3 * time.Second
	// idleTimeout after which connection and client are given up. Shorter than
	// the resync of a tenant, so that a thousand idle tenants hold no connection.
	idleTimeout = 2 * time.Minute
	// pingAfter is how long a silent HTTP/2 connection is trusted. A pod that was
	// replaced leaves one behind that no packet ever closes.
	pingAfter = 5 * time.Second
)

// anyTenant is the host in the URLs of all tenants.
const anyTenant = "tenant"

// Tenant is access to one tenant's API server. It is safe for concurrent use.
type Tenant struct {
	// Client reads and writes without a cache.
	Client client.Client

	host string
	http *http.Client
}

// NotReadyError says that the API server answered, but not that it is ready.
type NotReadyError struct {
	// Status is the HTTP status of /readyz.
	Status int
}

func (e *NotReadyError) Error() string {
	return fmt.Sprintf("/readyz answered with HTTP status %d", e.Status)
}

// Ready asks the API server whether it is ready: it serves, and its first-start
// tasks (system namespaces, default roles) are done.
func (t *Tenant) Ready(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.host+"/readyz", http.NoBody)
	if err != nil {
		return err
	}
	response, err := t.http.Do(request)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<16))
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return &NotReadyError{Status: response.StatusCode}
	}
	return nil
}

// Pool holds the tenants that are in use. The zero value is ready.
type Pool struct {
	// Dial connects to an address of a Service. It is for managers outside the
	// cluster, which have no route there; nil dials directly.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu      sync.Mutex
	tenants map[types.NamespacedName]*pooled
	swept   time.Time
}

type pooled struct {
	tenant *Tenant
	hash   string
	used   time.Time
}

// Tenant returns the client of a tenant: kubeconfig has the identity and the
// authority to trust, address (host:port) is where to connect, whatever server
// the kubeconfig names. The same input returns the same client. It does not dial.
func (p *Pool) Tenant(name types.NamespacedName, kubeconfig []byte, address string) (*Tenant, error) {
	hash := digest(kubeconfig, address)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.sweep(now)
	if have, ok := p.tenants[name]; ok {
		if have.hash == hash {
			have.used = now
			return have.tenant, nil
		}
		have.tenant.http.CloseIdleConnections()
	}
	tenant, err := p.open(kubeconfig, address)
	if err != nil {
		return nil, fmt.Errorf("making a client for tenant %s: %w", name, err)
	}
	if p.tenants == nil {
		p.tenants = map[types.NamespacedName]*pooled{}
	}
	p.tenants[name] = &pooled{tenant: tenant, hash: hash, used: now}
	return tenant, nil
}

// Forget drops the client of a tenant that is gone, or of which nothing is wanted for a while.
func (p *Pool) Forget(name types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if have, ok := p.tenants[name]; ok {
		have.tenant.http.CloseIdleConnections()
		delete(p.tenants, name)
	}
}

// sweep drops what was idle for too long. It looks at all entries at most once
// per idleTimeout, so its cost for each call stays constant.
func (p *Pool) sweep(now time.Time) {
	if now.Sub(p.swept) < idleTimeout {
		return
	}
	p.swept = now
	for name, have := range p.tenants {
		if now.Sub(have.used) >= idleTimeout {
			have.tenant.http.CloseIdleConnections()
			delete(p.tenants, name)
		}
	}
}

func digest(kubeconfig []byte, address string) string {
	sum := sha256.New()
	fmt.Fprintf(sum, "%d:%s", len(address), address)
	sum.Write(kubeconfig)
	return hex.EncodeToString(sum.Sum(nil))
}

func (p *Pool) open(kubeconfig []byte, address string) (*Tenant, error) {
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	// Metrics of requests have the host as a label, which must not be one for each tenant there ever was; so all have the
	// same, and the connection knows where it goes and whom to expect there.
	config.Host = "https://" + anyTenant
	if config.ServerName == "" {
		if config.ServerName, _, err = net.SplitHostPort(address); err != nil {
			return nil, err
		}
	}
	// Fairness is the tenant's own affair; a handful of requests needs no budget.
	config.QPS = -1
	// What a tenant's version thinks of our objects is not news to anybody.
	config.WarningHandler = rest.NoWarnings{}
	tls, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	// Not through client-go's transport cache, which never forgets a tenant. No
	// proxy either: the address is one of the management cluster.
	dial := p.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	httpClient := &http.Client{
		Timeout: requestTimeout,
		Transport: &http.Transport{
			DialContext:         func(ctx context.Context, network, _ string) (net.Conn, error) { return dial(ctx, network, address) },
			TLSClientConfig:     tls,
			TLSHandshakeTimeout: handshakeTimeout,
			ForceAttemptHTTP2:   true,
			IdleConnTimeout:     idleTimeout,
			MaxIdleConnsPerHost: 1,
			HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter},
		},
	}
	c, err := client.New(config, client.Options{HTTPClient: httpClient, Scheme: scheme, Mapper: mapper})
	if err != nil {
		return nil, err
	}
	return &Tenant{Client: c, host: config.Host, http: httpClient}, nil
}

// scheme and mapper cover the built-in kinds, which is all that is ever written
// into a tenant. Discovery would cost each tenant several requests and memory.
var (
	scheme = clientgoscheme.Scheme
	mapper = builtin(scheme)
)

// clusterScoped are the built-in kinds without a namespace that are used here.
var clusterScoped = map[string]bool{
	"Namespace": true, "Node": true, "ClusterRole": true, "ClusterRoleBinding": true, "PriorityClass": true,
	"CSIDriver": true, "StorageClass": true, "RuntimeClass": true, "IngressClass": true, "APIService": true,
	"ValidatingWebhookConfiguration": true, "MutatingWebhookConfiguration": true,
	"ValidatingAdmissionPolicy": true, "ValidatingAdmissionPolicyBinding": true,
	"CertificateSigningRequest": true, "PersistentVolume": true,
}

func builtin(scheme *runtime.Scheme) meta.RESTMapper {
	versions := []schema.GroupVersion{
		{Group: "", Version: "v1"}, {Group: "apps", Version: "v1"}, {Group: "rbac.authorization.k8s.io", Version: "v1"},
		{Group: "discovery.k8s.io", Version: "v1"}, {Group: "coordination.k8s.io", Version: "v1"},
		{Group: "certificates.k8s.io", Version: "v1"}, {Group: "scheduling.k8s.io", Version: "v1"},
		{Group: "policy", Version: "v1"}, {Group: "admissionregistration.k8s.io", Version: "v1"},
	}
	m := meta.NewDefaultRESTMapper(versions)
	for _, gv := range versions {
		for kind := range scheme.KnownTypes(gv) {
			scope := meta.RESTScope(meta.RESTScopeNamespace)
			if clusterScoped[kind] {
				scope = meta.RESTScopeRoot
			}
			gvk := gv.WithKind(kind)
			plural, singular := meta.UnsafeGuessKindToResource(gvk)
			if kind == "Endpoints" {
				plural.Resource = "endpoints"
			}
			m.AddSpecific(gvk, plural, singular, scope)
		}
	}
	return m
}
