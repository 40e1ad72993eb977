// SPDX-License-Identifier: Apache-2.0

package kubeadm

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/upgrade"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/golden"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// components whose flags a user may set, by their name in the spec.
var components = map[string]string{"apiServer": "kube-apiserver", "controllerManager": "kube-controller-manager", "scheduler": "kube-scheduler"}

// declarers says whose flags are declared in a package. Others that are linked in declare flags for programs of their own.
var declarers = map[string][]string{
	"k8s.io/kubernetes/pkg/kubeapiserver/options":               {"apiServer"},
	"k8s.io/kubernetes/cmd/kube-controller-manager/app/options": {"controllerManager"},
	"k8s.io/legacy-cloud-providers/gce":                         {"apiServer", "controllerManager"},
}

// unused are declarations that went away and that no component has used.
var unused = map[string]string{
	"k8s.io/apiserver/pkg/server/options address":                            "insecure serving, which ended with 1.24",
	"k8s.io/apiserver/pkg/server/options insecure-bind-address":              "insecure serving, which ended with 1.24",
	"k8s.io/apiserver/pkg/server/options insecure-port":                      "insecure serving, which ended with 1.24",
	"k8s.io/apiserver/pkg/server/options port":                               "insecure serving, which ended with 1.24",
	"k8s.io/apiserver/pkg/endpoints/handlers count":                          "no flag, only called like one",
	"k8s.io/kubernetes/pkg/kubelet/config image-credential-provider-bin-dir": "a kubelet's",
	"k8s.io/kubernetes/pkg/kubelet/config image-credential-provider-config":  "a kubelet's",
	"k8s.io/kubernetes/pkg/kubelet/config pod-infra-container-image":         "a kubelet's",
	"k8s.io/kubernetes/pkg/kubelet/config runtime-cgroups":                   "a kubelet's",
}

// TestRemovedFlags compares what the sources of each minor declare, hidden flags included: each that went away is one that
// the preflight refuses from that minor on. UPDATE=kubeadm reads the sources anew, which the Go module proxy has to have.
func TestRemovedFlags(t *testing.T) {
	var before map[string]bool
	for minor := upgrade.MinMinor; minor <= upgrade.MaxMinor; minor++ {
		record := filepath.Join("testdata", "flags", fmt.Sprintf("1.%d.txt", minor))
		if os.Getenv("UPDATE") == "kubeadm" {
			golden.Text(t, record, declared(t, minor))
		}
		data, err := os.ReadFile(record)
		if err != nil {
			t.Fatal(err)
		}
		now := map[string]bool{}
		for line := range strings.Lines(string(data)) {
			now[strings.TrimSpace(line)] = true
		}
		for gone := range before {
			if !now[gone] && unused[gone] == "" && !moved(now, gone) {
				refused(t, gone, minor)
			}
		}
		before = now
	}
}

// moved tells whether another package declares the flag now.
func moved(now map[string]bool, gone string) bool {
	pkg, flag, _ := strings.Cut(gone, " ")
	if len(declarers[pkg]) > 0 {
		return false
	}
	for declaration := range now {
		if strings.HasSuffix(declaration, " "+flag) {
			return true
		}
	}
	return false
}

// refused checks that the preflight knows a declaration that the minor has no more.
func refused(t *testing.T, declaration string, minor int) {
	t.Helper()
	pkg, flag, _ := strings.Cut(declaration, " ")
	if len(declarers[pkg]) == 0 {
		t.Errorf("1.%d has no %s any more: say in declarers or unused whose flag it was", minor, declaration)
	}
	for _, component := range declarers[pkg] {
		for to, want := range map[int]int{minor: 1, minor - 1: 0} {
			look := upgrade.Preflight{To: fmt.Sprintf("v1.%d.0", to), Args: map[string][]string{component: {"--" + flag + "=x"}}}
			if problems := look.Problems(); len(problems) != want {
				t.Errorf("%s --%s before 1.%d, which 1.%d has no more: problems %q", component, flag, to, minor, problems)
			}
		}
	}
}

// TestFlagsAreFound holds the record of the newest minor against the programs' own help. Names that are put together
// from a prefix stand in no source.
func TestFlagsAreFound(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "flags", fmt.Sprintf("1.%d.txt", upgrade.MaxMinor)))
	if err != nil {
		t.Fatal(err)
	}
	composed := regexp.MustCompile(`^(audit-(log|webhook)-(batch|mode|truncate).*|concurrent-rc-syncs|help|version)$`)
	for _, component := range slices.Sorted(maps.Values(components)) {
		program, err := filepath.EvalSymlinks(filepath.Join(testenv.Assets(), "kube-apiserver"))
		if err != nil {
			t.Fatal(err)
		}
		help, err := exec.CommandContext(t.Context(), program, component, "--help").CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", component, err, help)
		}
		flags := regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z0-9-]+)`).FindAllSubmatch(help, -1)
		if len(flags) < 40 {
			t.Fatalf("the help of %s has %d flags", component, len(flags))
		}
		for _, flag := range flags {
			if name := string(flag[1]); !composed.MatchString(name) && !strings.Contains(string(data), " "+name+"\n") {
				t.Errorf("%s has a flag --%s that isn't in the record", component, name)
			}
		}
	}
}

// declared lists the flags that the sources linked into the components declare, as lines of package and name.
func declared(t *testing.T, minor int) string {
	t.Helper()
	folder, arguments := "kubernetes", []string{"list", "-deps", "-json=ImportPath,Dir,GoFiles"}
	if minor < upgrade.MaxMinor {
		folder, arguments = "kubernetes-earlier", append(arguments, fmt.Sprintf("-modfile=1.%d.mod", minor))
	}
	for _, component := range slices.Sorted(maps.Values(components)) {
		arguments = append(arguments, "k8s.io/kubernetes/cmd/"+component)
	}
	list := exec.CommandContext(t.Context(), "go", arguments...)
	list.Dir = filepath.Join(testenv.Root(), "test", "lab", "modules", folder)
	list.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var pkg struct {
			ImportPath, Dir string
			GoFiles         []string
		}
		if err := decoder.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(pkg.ImportPath, "k8s.io/") {
			for _, flag := range inPackage(t, pkg.Dir, pkg.GoFiles) {
				found[pkg.ImportPath+" "+flag] = true
			}
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(found)), "\n") + "\n"
}

// inPackage finds the names in calls like fs.StringVar(&value, "name", …), where the name may be a constant.
func inPackage(t *testing.T, folder string, names []string) []string {
	t.Helper()
	constants := map[string]string{}
	var files []*ast.File
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(folder, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
		ast.Inspect(file, func(node ast.Node) bool {
			if spec, ok := node.(*ast.ValueSpec); ok {
				for i := range min(len(spec.Names), len(spec.Values)) {
					if text, ok := literal(spec.Values[i], nil); ok {
						constants[spec.Names[i].Name] = text
					}
				}
			}
			return true
		})
	}
	var out []string
	for _, file := range files {
		ast.Inspect(file, func(node ast.Node) bool {
			if call, ok := node.(*ast.CallExpr); ok {
				out = append(out, flagOf(call, constants)...)
			}
			return true
		})
	}
	return out
}

var (
	declaring = regexp.MustCompile(`Var|^(String|Bool|Int|Int32|Float32|Duration|StringSlice)$`)
	flagName  = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
)

// flagOf is the flag that a call declares, if it does.
func flagOf(call *ast.CallExpr, constants map[string]string) []string {
	function, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !declaring.MatchString(function.Sel.Name) {
		return nil
	}
	for i := range min(2, len(call.Args)-1) {
		if text, ok := literal(call.Args[i], constants); ok && flagName.MatchString(text) {
			return []string{text}
		}
	}
	return nil
}

func literal(expression ast.Expr, constants map[string]string) (string, bool) {
	switch e := expression.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			text, err := strconv.Unquote(e.Value)
			return text, err == nil
		}
	case *ast.Ident:
		text, ok := constants[e.Name]
		return text, ok
	}
	return "", false
}
