// SPDX-License-Identifier: Apache-2.0

//go:build scale

package scale

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	jsonpatch "github.com/evanphx/json-patch/v5"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// apis are the API servers of all tenants, in memory. Each presents the certificate that the engine has issued for it,
// and keeps what is applied to it. What a real one adds to objects is missing: defaults, and objects of its own.
type apis struct {
	reader  client.Reader
	address string

	mu      sync.Mutex
	objects map[string]map[string]map[string]any // address of the tenant, then path of the object
	writes  int
	queue   chan net.Conn
}

// serve answers until ctx ends. A caller sends the address it wants in a line of its own, then TLS begins.
func serve(ctx context.Context, reader client.Reader) (*apis, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &apis{reader: reader, address: listener.Addr().String(), objects: map[string]map[string]map[string]any{}, queue: make(chan net.Conn)}
	context.AfterFunc(ctx, func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go a.accept(ctx, conn)
		}
	}()
	server := &http.Server{Handler: a, ConnContext: func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, wantedKey{}, c.(*tls.Conn).NetConn().(*wanted).tenant)
	}}
	go func() { _ = server.Serve(a) }()
	return a, nil
}

type wantedKey struct{}

// wanted is a connection to one tenant.
type wanted struct {
	net.Conn
	buffered *bufio.Reader
	tenant   string
}

func (w *wanted) Read(p []byte) (int, error) { return w.buffered.Read(p) }

func (a *apis) accept(ctx context.Context, conn net.Conn) {
	reader := bufio.NewReader(conn)
	line, err := reader.ReadString('\n')
	if err != nil {
		conn.Close()
		return
	}
	host, _, _ := net.SplitHostPort(strings.TrimSpace(line))
	certificate, err := a.certificate(ctx, host)
	if err != nil {
		conn.Close()
		return
	}
	a.queue <- tls.Server(&wanted{conn, reader, host}, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}})
}

// certificate is that of the tenant whose Service has this address.
func (a *apis) certificate(ctx context.Context, address string) (tls.Certificate, error) {
	services := &corev1.ServiceList{}
	if err := a.reader.List(ctx, services, client.MatchingFields{"spec.clusterIP": address}); err != nil || len(services.Items) != 1 {
		return tls.Certificate{}, fmt.Errorf("finding the Service of %s: %d found, %v", address, len(services.Items), err)
	}
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: services.Items[0].Namespace, Name: services.Items[0].Name + "-api-server-certificate"}
	if err := a.reader.Get(ctx, key, secret); err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(secret.Data["apiserver.crt"], secret.Data["apiserver.key"])
}

// Accept, Close and Addr make a net.Listener of what accept has prepared.
func (a *apis) Accept() (net.Conn, error) {
	conn, open := <-a.queue
	if !open {
		return nil, net.ErrClosed
	}
	return conn, nil
}

// Close does nothing: the process ends.
func (a *apis) Close() error { return nil }

// Addr is where callers connect to.
func (a *apis) Addr() net.Addr { return &net.TCPAddr{} }

// ServeHTTP is a Kubernetes API of the verbs that the engine uses.
func (a *apis) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/readyz" {
		fmt.Fprint(w, "ok")
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	tenant := r.Context().Value(wantedKey{}).(string)
	if a.objects[tenant] == nil {
		a.objects[tenant] = map[string]map[string]any{}
	}
	objects := a.objects[tenant]
	switch r.Method {
	case http.MethodGet:
		a.get(w, r, objects)
	case http.MethodPost:
		object, err := decode(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		name := (&unstructured.Unstructured{Object: object}).GetName()
		a.store(w, objects, r.URL.Path+"/"+name, object)
	case http.MethodPatch, http.MethodPut:
		a.change(w, r, objects, body)
	case http.MethodDelete:
		delete(objects, r.URL.Path)
		answer(w, http.StatusOK, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Success"})
	}
}

func (a *apis) get(w http.ResponseWriter, r *http.Request, objects map[string]map[string]any) {
	if object, found := objects[r.URL.Path]; found {
		answer(w, http.StatusOK, object)
		return
	}
	if selector := r.URL.Query().Get("labelSelector"); selector != "" || r.URL.Query().Has("limit") {
		wants, err := labels.Parse(selector)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		items := []any{}
		for path, object := range objects {
			if strings.HasPrefix(path, r.URL.Path+"/") && wants.Matches(labels.Set((&unstructured.Unstructured{Object: object}).GetLabels())) {
				items = append(items, object)
			}
		}
		answer(w, http.StatusOK, map[string]any{"kind": "List", "apiVersion": "v1", "metadata": map[string]any{"resourceVersion": "1"}, "items": items})
		return
	}
	answer(w, http.StatusNotFound, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": http.StatusNotFound,
		"message": r.URL.Path + " not found"})
}

func (a *apis) change(w http.ResponseWriter, r *http.Request, objects map[string]map[string]any, body []byte) {
	path := strings.TrimSuffix(r.URL.Path, "/status")
	object, err := decode(body)
	if err == nil && strings.HasPrefix(r.Header.Get("Content-Type"), "application/merge-patch") {
		var before, after []byte
		before, _ = json.Marshal(objects[path])
		if after, err = jsonpatch.MergePatch(before, body); err == nil {
			object = nil
			err = json.Unmarshal(after, &object)
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.store(w, objects, path, object)
}

func (a *apis) store(w http.ResponseWriter, objects map[string]map[string]any, path string, object map[string]any) {
	a.writes++
	metadata, _ := object["metadata"].(map[string]any)
	metadata = maps.Clone(metadata)
	metadata["uid"], metadata["resourceVersion"], metadata["generation"] = "uid-"+strconv.Itoa(a.writes), strconv.Itoa(a.writes), 1
	object["metadata"] = metadata
	objects[path] = object
	answer(w, http.StatusOK, object)
}

// decode reads JSON, YAML or protobuf.
func decode(body []byte) (map[string]any, error) {
	var object map[string]any
	if err := yaml.Unmarshal(body, &object); err == nil && object != nil {
		return object, nil
	}
	typed, kind, err := clientgoscheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
	if err != nil {
		return nil, err
	}
	if object, err = runtime.DefaultUnstructuredConverter.ToUnstructured(typed); err != nil {
		return nil, err
	}
	object["apiVersion"], object["kind"] = kind.ToAPIVersionAndKind()
	return object, nil
}

func answer(w http.ResponseWriter, code int, object map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object)
}
