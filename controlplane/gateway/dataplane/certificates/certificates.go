// SPDX-License-Identifier: Apache-2.0

// Package certificates brings the client certificate of a gateway's data plane from the management cluster to the machine it runs on,
// and its successors. The data plane reads the files for every connection, so nothing has to be told.
package certificates

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

const (
	// timeout bounds the request; it is made again by whoever runs this, some hours later.
	timeout = 30 * time.Second
	// maxSecret is more than a Secret can have, in bytes.
	maxSecret = 4 << 20
)

// Bundle is the content of a Secret that cert-manager makes, in PEM.
type Bundle struct {
	CA, Cert, Key []byte
}

// Fetch reads the Secret of a gateway's data plane with the current context of a kubeconfig. Its user needs the right to get this one
// Secret and no other.
func Fetch(ctx context.Context, kubeconfig, namespace, gateway string) (Bundle, error) {
	c, err := loadKubeconfig(kubeconfig)
	if err != nil {
		return Bundle{}, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(c.ca) {
		return Bundle{}, fmt.Errorf("kubeconfig %s: the authority of the cluster holds no certificate", kubeconfig)
	}
	client := &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: c.name},
			Proxy:           http.ProxyFromEnvironment, DisableKeepAlives: true,
		},
		// The token is for this server and no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	secret := SecretName(gateway)
	at := c.server + "/api/v1/namespaces/" + url.PathEscape(namespace) + "/secrets/" + url.PathEscape(secret)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		return Bundle{}, fmt.Errorf("reading Secret %s/%s: %w", namespace, secret, err)
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	request.Header.Set("Accept", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return Bundle{}, fmt.Errorf("reading Secret %s/%s: %w", namespace, secret, err)
	}
	defer func() { _ = response.Body.Close() }()
	bundle, err := decode(response)
	if err != nil {
		return Bundle{}, fmt.Errorf("reading Secret %s/%s: %w", namespace, secret, err)
	}
	return bundle, nil
}

// SecretName is the Secret of a gateway's data plane.
func SecretName(gateway string) string { return "kamaji-gateway-" + gateway + "-xds" }

// decode takes the Secret, or the message of a refusal, which holds nothing secret.
func decode(response *http.Response) (Bundle, error) {
	body, err := io.ReadAll(io.LimitReader(response.Body, maxSecret))
	if err != nil {
		return Bundle{}, err
	}
	if response.StatusCode != http.StatusOK {
		var refusal struct{ Message string }
		// Whatever is no refusal of Kubernetes is told by its code alone.
		_ = json.Unmarshal(body, &refusal)
		return Bundle{}, fmt.Errorf("the API server answers %s: %s", response.Status, refusal.Message)
	}
	var secret struct{ Data map[string][]byte }
	if err := json.Unmarshal(body, &secret); err != nil {
		return Bundle{}, errors.New("the API server's answer is no Secret")
	}
	bundle := Bundle{CA: secret.Data["ca.crt"], Cert: secret.Data["tls.crt"], Key: secret.Data["tls.key"]}
	if len(bundle.CA) == 0 || len(bundle.Cert) == 0 || len(bundle.Key) == 0 {
		return Bundle{}, errors.New("it lacks one of ca.crt, tls.crt and tls.key: was the certificate issued?")
	}
	return bundle, nil
}

// Check tells until when the certificate is good for the data plane of a gateway. It fails when it isn't so now: what is on disk is then
// better than what was fetched.
func (b Bundle) Check(gateway string, now time.Time) (until time.Time, err error) {
	pair, err := tls.X509KeyPair(b.Cert, b.Key)
	if err != nil {
		return time.Time{}, fmt.Errorf("tls.crt and tls.key: %w", err)
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	if !roots.AppendCertsFromPEM(b.CA) {
		return time.Time{}, errors.New("ca.crt holds no certificate")
	}
	for _, der := range pair.Certificate[1:] {
		intermediate, err := x509.ParseCertificate(der)
		if err != nil {
			return time.Time{}, fmt.Errorf("tls.crt: %w", err)
		}
		intermediates.AddCert(intermediate)
	}
	leaf := pair.Leaf
	options := x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := leaf.Verify(options); err != nil {
		return time.Time{}, fmt.Errorf("tls.crt: %w", err)
	}
	named, err := route.GatewayOfIdentity(leaf.URIs)
	if err != nil {
		return time.Time{}, fmt.Errorf("tls.crt: %w", err)
	}
	if named != gateway {
		return time.Time{}, fmt.Errorf("tls.crt is the certificate of gateway %q, not %q", named, gateway)
	}
	return leaf.NotAfter, nil
}

// Write replaces the files in dir that differ and tells whether there were any. Each is replaced at once, so that a reader never sees
// half of one. A reader between two of them sees a key that doesn't fit its certificate, and tries again.
func (b Bundle) Write(dir string) (changed bool, err error) {
	for _, file := range []struct {
		name string
		data []byte
		mode fs.FileMode
	}{{"ca.crt", b.CA, 0o644}, {"tls.key", b.Key, 0o600}, {"tls.crt", b.Cert, 0o644}} {
		path := filepath.Join(dir, file.name)
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, file.data) {
			continue
		}
		if err := replace(path, file.data, file.mode); err != nil {
			return changed, fmt.Errorf("writing %s: %w", path, err)
		}
		changed = true
	}
	return changed, nil
}

func replace(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
