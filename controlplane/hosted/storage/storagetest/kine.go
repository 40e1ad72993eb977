// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// Kine is a real kine in front of a tenant's database.
type Kine struct {
	// Client speaks to it as to an etcd.
	Client *clientv3.Client
	cmd    *exec.Cmd
}

// StartKine runs kine as it runs beside a kube-apiserver, until the test ends.
func StartKine(t testing.TB, driver storage.Driver, tenant storage.Tenant, credentials storage.Credentials) *Kine {
	t.Helper()
	binary := filepath.Join(testenv.Assets(), "kine")
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("no kine in %q: run `make test`, or `go run ./test/lab assets` once", testenv.Assets())
	}
	dir, out := owned(t), &log{}
	args := []string{"--listen-address=unix://" + filepath.Join(dir, "kine.sock"), "--metrics-bind-address=0"}
	for flag, content := range map[string][]byte{"ca-file": credentials.CA, "cert-file": credentials.Certificate, "key-file": credentials.Key} {
		if len(content) > 0 {
			write(t, filepath.Join(dir, flag), content)
			args = append(args, "--"+flag+"="+filepath.Join(dir, flag))
		}
	}
	endpoint := driver.Endpoint(tenant, credentials)
	if len(credentials.Login) > 0 {
		write(t, filepath.Join(dir, storage.LoginFile), credentials.Login)
		endpoint = strings.Replace(endpoint, url.QueryEscape(storage.KineFiles), url.QueryEscape(dir), 1)
	}
	k := &Kine{cmd: exec.Command(binary, args...)}
	k.cmd.Env = append(os.Environ(), "KINE_ENDPOINT="+endpoint)
	k.cmd.Dir, k.cmd.Stdout, k.cmd.Stderr = dir, out, out
	if err := k.cmd.Start(); err != nil {
		t.Fatalf("starting kine: %v", err)
	}
	var err error
	k.Client, err = clientv3.New(clientv3.Config{
		Endpoints: []string{"unix://" + filepath.Join(dir, "kine.sock")}, DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		k.Stop()
		if t.Failed() {
			t.Logf("kine: %s", out.Tail())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		call, done := context.WithTimeout(ctx, 5*time.Second)
		_, err := k.Client.Get(call, "/registry/health")
		done()
		if err == nil {
			return k
		}
		if ctx.Err() != nil {
			t.Fatalf("kine does not answer: %v\n%s", err, out)
		}
	}
}

// Stop ends the process.
func (k *Kine) Stop() {
	if k.cmd.ProcessState != nil {
		return
	}
	_ = k.Client.Close()
	_ = k.cmd.Process.Kill()
	_ = k.cmd.Wait()
}
