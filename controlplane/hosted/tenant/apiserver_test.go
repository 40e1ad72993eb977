// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// kubelet stands in for the node: it runs the container kube-apiserver of a
// Deployment as a process, with the container's own arguments and the files that
// its volumes would hold, and leads connections to the Service there.
type kubelet struct {
	mu    sync.Mutex
	ports map[string]string
}

// dial is what kube-proxy does.
func (k *kubelet) dial(ctx context.Context, network, address string) (net.Conn, error) {
	k.mu.Lock()
	port, ok := k.ports[address]
	k.mu.Unlock()
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.ErrDeadlineExceeded}
	}
	return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
}

// run starts the API server of a Deployment behind serviceAddress.
func (k *kubelet) run(t *testing.T, c client.Client, deployment *appsv1.Deployment, serviceAddress string) {
	t.Helper()
	root := t.TempDir()
	pod := deployment.Spec.Template.Spec
	var container corev1.Container
	for _, candidate := range pod.Containers {
		if candidate.Name == "kube-apiserver" {
			container = candidate
		}
	}
	for _, mount := range container.VolumeMounts {
		for _, volume := range pod.Volumes {
			if volume.Name == mount.Name {
				fill(t, c, deployment.Namespace, volume, filepath.Join(root, mount.MountPath))
			}
		}
	}
	port := freePort(t)
	args := []string{"--bind-address=127.0.0.1", "--v=1"}
	for _, arg := range container.Args {
		name, value, _ := strings.Cut(arg, "=")
		switch {
		case name == "--secure-port":
			value = port
		case name == "--egress-selector-config-file":
			// It leads to a socket in /run, which belongs to another container.
			continue
		case strings.HasPrefix(value, "/etc/kubernetes"):
			value = root + value
		}
		args = append(args, name+"="+value)
	}
	cmd := exec.Command(filepath.Join(testenv.Assets(), "kube-apiserver"), args...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting the tenant's kube-apiserver: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			lines := strings.Split(log.String(), "\n")
			t.Logf("kube-apiserver %s\n%s", strings.Join(args, " "), strings.Join(lines[max(0, len(lines)-15):], "\n"))
		}
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ports[serviceAddress] = port
}

// fill writes what a volume holds. A missing Secret or key fails the test, as it
// would keep a pod from starting.
func fill(t *testing.T, c client.Client, namespace string, volume corev1.Volume, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name string, items []corev1.KeyToPath) {
		var secret corev1.Secret
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &secret); err != nil {
			t.Fatalf("volume %s: %v", volume.Name, err)
		}
		for _, item := range items {
			path := filepath.Join(dir, item.Path)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if len(secret.Data[item.Key]) == 0 {
				t.Fatalf("volume %s: Secret %s has no key %s", volume.Name, name, item.Key)
			}
			if err := os.WriteFile(path, secret.Data[item.Key], 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if volume.Projected == nil {
		return
	}
	for _, source := range volume.Projected.Sources {
		if source.Secret != nil {
			write(source.Secret.Name, source.Secret.Items)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
