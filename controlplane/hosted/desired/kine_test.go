// SPDX-License-Identifier: Apache-2.0

package desired_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/mysql"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/nats"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/postgres"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/golden"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// kineBinary is kine, as the image has it.
func kineBinary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(testenv.Assets(), "kine")
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("no kine: run `make test`, or `go run ./test/lab assets` once: %v", err)
	}
	return path
}

// TestKineStarts runs an API server on kine on a real PostgreSQL, with the
// credentials of the driver, one of whose members is down.
func TestKineStarts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a database and two processes")
	}
	binary := kineBinary(t)
	database := storagetest.StartPostgres(t)
	config := database.Config
	config.Endpoints = []string{fmt.Sprintf("127.0.0.1:%d", freePort(t)), config.Endpoints[0]}
	driver, err := postgres.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	tenant := storage.Tenant{Owner: "ns/demo", Schema: "demo-schema", User: "demo-user"}
	tenantStartsOnKine(t, binary, driver, tenant)
	if n := database.Keys("/" + tenant.Schema + "/"); n == 0 {
		t.Error("nothing is in the database")
	}
}

// startsOnKine runs kine and an API server with the arguments of the Deployment,
// and reads what it wrote.
func startsOnKine(t *testing.T, binary, endpoint string, credentials storage.Credentials) {
	t.Helper()
	p := newPod(t)
	p.in.Storage = desired.Storage{Kine: desired.KineImage}
	p.in.Secrets[pki.DataStore] = map[string][]byte{"ca.crt": credentials.CA}
	if len(credentials.Login) > 0 {
		p.in.Secrets[pki.DataStore][storage.LoginFile] = credentials.Login
	}
	p.in.Secrets[desired.StorageConfig] = map[string][]byte{desired.KineEndpoint: []byte(endpoint)}
	// The files of the container are in a folder of the test.
	t.Setenv(desired.KineEndpoint, strings.ReplaceAll(endpoint, url.QueryEscape(storage.KineFiles), url.QueryEscape(filepath.Join(p.dir, "kine"+storage.KineFiles))))
	metrics := freePort(t)
	p.must(os.MkdirAll(filepath.Join(p.dir, "kine/run/kine"), 0o700))
	p.start(binary, "kine", p.args("kine", fmt.Sprintf("--metrics-bind-address=127.0.0.1:%d", metrics))...)
	p.eventually("kine has a connection", func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/metrics", metrics), nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		return response.Body.Close()
	})
	args := p.args("kube-apiserver", "--advertise-address=127.0.0.1")
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], filepath.Join(p.dir, "kube-apiserver/run/kine"), filepath.Join(p.dir, "kine/run/kine"))
	}
	p.start(filepath.Join(testenv.Assets(), "kube-apiserver"), "kube-apiserver", args...)
	c := p.client()
	p.eventually("kube-apiserver serves", func(ctx context.Context) error {
		return c.Get(ctx, client.ObjectKey{Namespace: "default", Name: "kubernetes"}, &corev1.Service{})
	})
	written := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "note"}, Data: map[string]string{"a": "1"}}
	p.must(c.Create(t.Context(), written))
	read := &corev1.ConfigMap{}
	p.must(c.Get(t.Context(), client.ObjectKeyFromObject(written), read))
	if read.Data["a"] != "1" {
		t.Errorf("read %v", read.Data)
	}
}

// tenantStartsOnKine makes the tenant in the store, and closes the driver when the test ends.
func tenantStartsOnKine(t *testing.T, binary string, driver storage.Driver, tenant storage.Tenant) {
	t.Helper()
	t.Cleanup(func() { _ = driver.Close() })
	credentials, err := driver.Credentials(tenant, storage.Credentials{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := driver.EnsureTenant(t.Context(), tenant, credentials); err != nil {
		t.Fatal(err)
	}
	startsOnKine(t, binary, driver.Endpoint(tenant, credentials), credentials)
}

// TestKineStartsOnMariaDB is the same on MariaDB.
func TestKineStartsOnMariaDB(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a database and two processes")
	}
	binary := kineBinary(t)
	database := storagetest.StartMariaDB(t)
	driver, err := mysql.Open(database.Config)
	if err != nil {
		t.Fatal(err)
	}
	tenant := storage.Tenant{Owner: "ns/demo", Schema: "demo_schema", User: "demo-user"}
	tenantStartsOnKine(t, binary, driver, tenant)
	if n := database.Keys("/" + tenant.Schema + "/"); n == 0 {
		t.Error("nothing is in the database")
	}
}

// TestKineStartsOnNATS is the same on NATS, one of whose addresses is wrong.
func TestKineStartsOnNATS(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server and two processes")
	}
	binary := kineBinary(t)
	server := storagetest.StartNATS(t, 1)
	config := server.Config
	config.Endpoints = append([]string{fmt.Sprintf("127.0.0.1:%d", freePort(t))}, config.Endpoints...)
	driver, err := nats.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	tenant := storage.Tenant{Owner: "ns/demo", Schema: "demo-schema", User: "demo-user"}
	tenantStartsOnKine(t, binary, driver, tenant)
	if n := server.Keys("/" + tenant.Schema + "/"); n == 0 {
		t.Error("nothing is in the bucket")
	}
}

// TestKineOnNATS has the login in a file, and neither an argument nor a variable with anything secret.
func TestKineOnNATS(t *testing.T) {
	in := throughGateway()
	in.Storage.Kine = desired.KineImage
	in.Secrets[pki.DataStore] = secret("ca.crt", storage.LoginFile)
	in.Secrets[desired.StorageConfig][desired.KineEndpoint] = []byte("nats://")
	for _, o := range desired.Workload(in) {
		if deployment, ok := o.(*appsv1.Deployment); ok {
			golden.Objects(t, filepath.Join("testdata", "kine-nats.yaml"), []client.Object{deployment})
		}
	}
}
