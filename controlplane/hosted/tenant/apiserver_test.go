// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// kubelet stands in for the node: it runs the container kube-apiserver of a
// Deployment as a process, with the container's own arguments and the files that
// its volumes would hold, and leads connections to the Service there.
type kubelet struct {
	mu sync.Mutex
	// ports are those of the processes, by the address of the Service.
	ports map[string]string
	// processes by the name of the Deployment.
	processes map[string]*exec.Cmd
}

// stop ends the API server of a Deployment, as the end of its pod does.
func (k *kubelet) stop(t *testing.T, deployment, serviceAddress string) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.ports, serviceAddress)
	if err := k.processes[deployment].Process.Kill(); err != nil {
		t.Errorf("ending the kube-apiserver: %v", err)
	}
	delete(k.processes, deployment)
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

// run starts the API server of a Deployment behind serviceAddress, until life ends.
func (k *kubelet) run(life *testing.T, c client.Client, deployment *appsv1.Deployment, serviceAddress string) {
	life.Helper()
	port, _ := k.start(life, life, c, deployment)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ports[serviceAddress] = port
}

// roll replaces the API server as a rollout does: a new one with the files as they are now, and when that is ready, the
// end of the former one, which finishes what it has begun.
func (k *kubelet) roll(t, life *testing.T, c client.Client, deployment *appsv1.Deployment, serviceAddress string) {
	t.Helper()
	port, next := k.start(t, life, c, deployment)
	anyone := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // as a probe
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://127.0.0.1:"+port+"/readyz", http.NoBody)
		if err != nil {
			return false, err
		}
		response, err := anyone.Do(request)
		if err != nil {
			return false, nil //nolint:nilerr // not yet
		}
		return response.StatusCode == http.StatusOK, response.Body.Close()
	})
	if err != nil {
		t.Fatalf("the new kube-apiserver doesn't get ready: %v", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ports[serviceAddress] = port
	former := k.processes[deployment.Name]
	k.processes[deployment.Name] = next
	if err := former.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("ending the former kube-apiserver: %v", err)
	}
}

func (k *kubelet) start(t, life *testing.T, c client.Client, deployment *appsv1.Deployment) (string, *exec.Cmd) {
	t.Helper()
	root := life.TempDir()
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
				fill(t, c, deployment.Namespace, volume, root, mount.MountPath)
			}
		}
	}
	k.startKine(t, life, c, deployment, root)
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
		case strings.HasPrefix(value, "unix:///"):
			value = "unix://" + root + strings.TrimPrefix(value, "unix://")
		}
		args = append(args, name+"="+value)
	}
	cmd := exec.Command(filepath.Join(testenv.Assets(), "kube-apiserver"), args...)
	cmd.Env = os.Environ()
	for _, variable := range container.Env {
		if strings.HasPrefix(variable.Value, "/") {
			cmd.Env = append(cmd.Env, variable.Name+"="+root+variable.Value)
		}
	}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting the tenant's kube-apiserver: %v", err)
	}
	life.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if life.Failed() {
			lines := strings.Split(log.String(), "\n")
			life.Logf("kube-apiserver %s\n%s", strings.Join(args, " "), strings.Join(lines[max(0, len(lines)-15):], "\n"))
		}
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.processes[deployment.Name] == nil {
		k.processes[deployment.Name] = cmd
	}
	return port, cmd
}

// startKine runs the sidecar of a Deployment that has one. It ends with life, later
// than the API server would.
func (k *kubelet) startKine(t, life *testing.T, c client.Client, deployment *appsv1.Deployment, root string) {
	t.Helper()
	pod := deployment.Spec.Template.Spec
	i := slices.IndexFunc(pod.InitContainers, func(candidate corev1.Container) bool { return candidate.Name == "kine" })
	if i < 0 {
		return
	}
	container := pod.InitContainers[i]
	var args []string
	for _, arg := range container.Args {
		name, value, _ := strings.Cut(arg, "=")
		switch {
		case name == "--metrics-bind-address":
			value = "0"
		case strings.HasPrefix(value, "unix:///"):
			value = "unix://" + root + strings.TrimPrefix(value, "unix://")
		case strings.HasPrefix(value, "/"):
			value = root + value
		}
		args = append(args, name+"="+value)
	}
	for _, mount := range container.VolumeMounts {
		dir := filepath.Join(root, mount.MountPath)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, volume := range pod.Volumes {
			if volume.Name != mount.Name || volume.Secret == nil {
				continue
			}
			for file, content := range secretData(t, c, deployment.Namespace, volume.Secret.SecretName) {
				if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	cmd := exec.Command(filepath.Join(testenv.Assets(), "kine"), args...)
	cmd.Env, cmd.Dir = os.Environ(), root
	for _, variable := range container.Env {
		from := variable.ValueFrom.SecretKeyRef
		value := string(secretData(t, c, deployment.Namespace, from.Name)[from.Key])
		// A connection string may name a file among those above.
		value = strings.Replace(value, url.QueryEscape(storage.KineFiles), url.QueryEscape(filepath.Join(root, storage.KineFiles)), 1)
		cmd.Env = append(cmd.Env, variable.Name+"="+value)
	}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting the tenant's kine: %v", err)
	}
	life.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if life.Failed() {
			lines := strings.Split(log.String(), "\n")
			life.Logf("kine %s\n%s", strings.Join(args, " "), strings.Join(lines[max(0, len(lines)-15):], "\n"))
		}
	})
}

func secretData(t *testing.T, c client.Client, namespace, name string) map[string][]byte {
	t.Helper()
	var secret corev1.Secret
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &secret); err != nil {
		t.Fatal(err)
	}
	return secret.Data
}

// fill writes what a volume holds. A missing Secret or key fails the test, as it
// would keep a pod from starting.
func fill(t *testing.T, c client.Client, namespace string, volume corev1.Volume, root, mountPath string) {
	t.Helper()
	dir := filepath.Join(root, mountPath)
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
	if volume.ConfigMap != nil {
		project(t, c, namespace, volume.ConfigMap.Name, root, dir)
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

// project lays out a ConfigMap as a kubelet does: each file is a link into a folder that is swapped as a whole.
func project(t *testing.T, c client.Client, namespace, name, root, dir string) {
	t.Helper()
	var content corev1.ConfigMap
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &content); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "..2026_01_01"), 0o700); err != nil {
		t.Fatal(err)
	}
	link := func(from, to string) {
		if err := os.Symlink(from, filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	link("..2026_01_01", "..data")
	for file, text := range content.Data {
		// Files name each other by the path that they have in the container.
		text = strings.ReplaceAll(text, "/etc/kubernetes/", root+"/etc/kubernetes/")
		if err := os.WriteFile(filepath.Join(dir, "..data", file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		link("..data/"+file, file)
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
