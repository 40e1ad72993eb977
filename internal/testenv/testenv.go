// SPDX-License-Identifier: Apache-2.0

// Package testenv starts a real kube-apiserver and etcd for tests of wiring.
package testenv

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	apimachineryruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// Assets is the folder with kube-apiserver, etcd and kubectl: KUBEBUILDER_ASSETS, or what `go run ./test/lab assets` built before.
func Assets() string {
	if dir := os.Getenv("KUBEBUILDER_ASSETS"); dir != "" {
		return dir
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(cache, "cluster-api-provider-kamaji", "assets")
}

// Root is the repository's folder: the nearest one above the working directory, which for a test is its package, that has a go.mod.
// Positions in the source would not tell it for tests that are built with -trimpath.
func Root() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	panic("tests run outside of the repository")
}

// Start runs a management API server with the CRDs found in crdPaths (folders or files, relative to the repository)
// until the test ends, and returns its configuration and an uncached client. Missing binaries fail the test.
func Start(t testing.TB, scheme *apimachineryruntime.Scheme, crdPaths ...string) (*rest.Config, client.Client) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(Assets(), "kube-apiserver")); err != nil {
		t.Fatalf("no kube-apiserver in %q: run `make test`, or `go run ./test/lab assets` once", Assets())
	}
	env := &envtest.Environment{BinaryAssetsDirectory: Assets(), Scheme: scheme, ErrorIfCRDPathMissing: true}
	for _, path := range crdPaths {
		if !filepath.IsAbs(path) {
			path = filepath.Join(Root(), path)
		}
		env.CRDDirectoryPaths = append(env.CRDDirectoryPaths, path)
	}
	config, err := env.Start()
	if err != nil {
		t.Fatalf("starting the test API server: %v", errors.Join(err, env.Stop()))
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Errorf("stopping the test API server: %v", err)
		}
	})
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatalf("making a client: %v", err)
	}
	return config, c
}

// ClusterAPICRDs is the folder with the CRDs of Cluster API's core, in the module that go.mod pins.
func ClusterAPICRDs(t testing.TB) string {
	t.Helper()
	return filepath.Join(module(t, "sigs.k8s.io/cluster-api"), "core", "config", "crd", "bases")
}

// GatewayAPICRDs is the folder with the CRDs of the Gateway API, in the module that go.mod pins.
func GatewayAPICRDs(t testing.TB) string {
	t.Helper()
	return filepath.Join(module(t, "sigs.k8s.io/gateway-api"), "config", "crd", "standard")
}

// module is the folder of a module that go.mod pins.
func module(t testing.TB, path string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", path)
	command.Dir = Root()
	out, err := command.Output()
	if err != nil {
		t.Fatalf("finding module %s: %v", path, err)
	}
	return strings.TrimSpace(string(out))
}
