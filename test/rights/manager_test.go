// SPDX-License-Identifier: Apache-2.0

package rights

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/cluster-api/cmd/clusterctl/client/yamlprocessor"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// system is where the manager is installed, tenants where its tenants are.
const (
	system  = "kamaji-system"
	tenants = "team-a"
)

// build compiles the manager once for all tests.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "controlplane-manager")
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "controlplane-manager")
	command := exec.Command("go", "build", "-o", program, "./cmd/controlplane-manager")
	command.Dir, command.Stderr = testenv.Root(), os.Stderr
	return program, command.Run()
})

func TestMain(m *testing.M) {
	code := m.Run()
	if program, err := build(); err == nil {
		os.RemoveAll(filepath.Dir(program))
	}
	os.Exit(code)
}

// install applies the ServiceAccount and its roles, and returns the arguments of the Deployment.
func install(t *testing.T, c client.Client, folder string) []string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "tool", "-modfile=hack/tools/go.mod", "kustomize", "build", folder)
	command.Dir, command.Stderr = testenv.Root(), os.Stderr
	text, err := command.Output()
	if err == nil {
		text, err = yamlprocessor.NewSimpleProcessor().Process(text, func(name string) (string, error) {
			return map[string]string{"KAMAJI_NAMESPACE": tenants}[name], nil
		})
	}
	if err != nil {
		t.Fatalf("building %s: %v", folder, err)
	}
	var args []string
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		o := &unstructured.Unstructured{}
		if decoder.Decode(&o.Object) != nil {
			break
		}
		switch o.GetKind() {
		case "Namespace", "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding":
			create(t, c, o)
		case "Deployment":
			containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
			args, _, err = unstructured.NestedStringSlice(containers[0].(map[string]any), "args")
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return args
}

func create(t *testing.T, c client.Client, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatalf("creating %T %s: %v", o, o.GetName(), err)
		}
	}
}

// kubeconfig has the token of the manager's ServiceAccount.
func kubeconfig(t *testing.T, config *rest.Config, c client.Client) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "kamaji-manager"}}
	if err := c.SubResource("token").Create(t.Context(), account, request); err != nil {
		t.Fatalf("asking for a token: %v", err)
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"test": {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"manager": {Token: request.Status.Token}},
		Contexts:       map[string]*clientcmdapi.Context{"test": {Cluster: "test", AuthInfo: "manager"}},
		CurrentContext: "test",
	}, file)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// certificates is a folder with what the route server needs to start; nobody asks it for routes.
func certificates(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	certPEM, keyPEM, err := cert.GenerateSelfSignedCertKey("kamaji-xds", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"tls.crt": certPEM, "tls.key": keyPEM, "ca.crt": certPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// manager is a running program.
type manager struct {
	command *exec.Cmd
	log     bytes.Buffer
	ended   chan error
}

// start runs the manager with the arguments of its Deployment, but for addresses and certificates that are not there. The last
// of several arguments of one name counts.
func start(t *testing.T, kubeconfig string, args ...string) *manager {
	t.Helper()
	program, err := build()
	if err != nil {
		t.Fatalf("building the manager: %v", err)
	}
	args = append(args, "--webhooks=false", "--xds-bind-address=127.0.0.1:0", "--xds-cert-dir="+certificates(t), "--activator-address=127.0.0.1:0", "--health-addr=0", "--diagnostics-address=0", "--concurrent-starts=4")
	m := &manager{command: exec.CommandContext(t.Context(), program, args...), ended: make(chan error, 1)}
	m.command.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "POD_NAMESPACE="+system, "POD_NAME=manager")
	m.command.Stdout, m.command.Stderr = &m.log, &m.log
	if err := m.command.Start(); err != nil {
		t.Fatalf("starting the manager: %v", err)
	}
	go func() { m.ended <- m.command.Wait() }()
	return m
}

// refused finds what the API server, or its client, says about rights.
var refused = regexp.MustCompile(`(?m)^.*(?:is forbidden|cannot (?:create|delete|get|list|patch|update|watch) resource).*$`)

// stop ends the manager, and fails the test for whatever it was not allowed to do.
func (m *manager) stop(t *testing.T) {
	t.Helper()
	if err := m.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("stopping the manager: %v", err)
	}
	if err := <-m.ended; err != nil {
		t.Errorf("the manager ended: %v", err)
	}
	text := m.log.String()
	for _, line := range refused.FindAllString(text, -1) {
		t.Errorf("refused: %s", line)
	}
	if t.Failed() {
		lines := strings.Split(text, "\n")
		t.Logf("the manager's last words:\n%s", strings.Join(lines[max(0, len(lines)-40):], "\n"))
	}
}
