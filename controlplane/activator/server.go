// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

const (
	// patience is how long a client may take for its handshake, and again for its request.
	patience = 5 * time.Second
	// maxHeader is the size of a request's header, in bytes: a token of some KiB has room.
	maxHeader = 32 << 10
	// writeTimeout bounds the write of a wake.
	writeTimeout = 5 * time.Second
)

// Options of SetupWithManager.
type Options struct {
	// Address to listen on, host:port.
	Address string
	// TLS are further settings, such as a higher minimal version.
	TLS []func(*tls.Config)
}

// +kubebuilder:rbac:groups=kamaji.clastix.io,resources=tenantcontrolplanes,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// SetupWithManager adds the activator to every replica of the manager.
func SetupWithManager(ctx context.Context, mgr ctrl.Manager, options Options) error {
	if err := indexHosts(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	return mgr.Add(New(mgr.GetClient(), mgr.GetCache(), mgr.GetEventRecorder("kamaji-activator"), options))
}

// Server is the activator.
type Server struct {
	options  Options
	client   client.Client
	cache    cache.Cache
	recorder events.EventRecorder
	base     *tls.Config
	gate     *gate
	wakes    wakes
}

var _ manager.LeaderElectionRunnable = &Server{}

// New returns an activator that reads from a cache, which c must use and which must have the index of indexHosts.
func New(c client.Client, cache cache.Cache, recorder events.EventRecorder, options Options) *Server {
	s := &Server{options: options, client: c, cache: cache, recorder: recorder, gate: newGate(), base: &tls.Config{MinVersion: tls.VersionTLS12}}
	for _, set := range options.TLS {
		set(s.base)
	}
	s.base.MinVersion = max(s.base.MinVersion, tls.VersionTLS12)
	// One request for each connection, which HTTP/2 has no use for. A ticket would carry who a client is from one tenant to another.
	s.base.NextProtos, s.base.SessionTicketsDisabled = []string{"http/1.1"}, true
	return s
}

// NeedLeaderElection is false: every replica answers.
func (*Server) NeedLeaderElection() bool { return false }

// Start serves until ctx ends.
func (s *Server) Start(ctx context.Context) error {
	if !s.cache.WaitForCacheSync(ctx) {
		return nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.options.Address)
	if err != nil {
		return fmt.Errorf("listening for clients of sleeping tenants: %w", err)
	}
	log.FromContext(ctx).Info("answering for sleeping tenants", "address", listener.Addr().String())
	return s.Serve(ctx, listener)
}

// Serve serves on listener until ctx ends, and closes it.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	config := s.base.Clone()
	config.GetConfigForClient = s.configFor
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: patience, ReadTimeout: patience, WriteTimeout: 2 * patience, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    stdlog.New(panics{log.FromContext(ctx)}, "", 0),
	}
	server.SetKeepAlivesEnabled(false)
	stopped := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stopped()
	err := server.Serve(tls.NewListener(&gated{Listener: listener, gate: s.gate}, config))
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving clients of sleeping tenants: %w", err)
}

// panics lets only those through to the log: what clients do wrong is no news.
type panics struct{ log logr.Logger }

// Write implements io.Writer.
func (p panics) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("panic")) {
		p.log.Error(errors.New(string(line)), "answering a client of a sleeping tenant")
	}
	return len(line), nil
}

// configFor shows a client the certificate of the tenant that it names.
func (s *Server) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	ctx := hello.Context()
	tenant, err := s.named(ctx, hello.ServerName)
	if err != nil {
		refused.WithLabelValues(refusedName).Inc()
		return nil, err
	}
	conn, ok := hello.Conn.(*connection)
	if !ok {
		return nil, errors.New("the connection was not counted")
	}
	if err := conn.enter(ctx, client.ObjectKeyFromObject(tenant)); err != nil {
		return nil, err
	}
	pair, clients, err := s.identity(ctx, tenant, hello.ServerName)
	if err != nil {
		return nil, err
	}
	config := s.base.Clone()
	config.Certificates = []tls.Certificate{pair}
	// Who comes without a certificate may have a token, and who comes with a wrong one is told so by HTTP, as by an API server.
	config.ClientAuth, config.ClientCAs = tls.RequestClientCert, x509.NewCertPool()
	config.ClientCAs.AppendCertsFromPEM(clients)
	return config, nil
}
