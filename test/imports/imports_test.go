// SPDX-License-Identifier: Apache-2.0

// Package imports holds the code to the import rules of .golangci.yml where the linter itself isn't built, as in CI.
package imports

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// module is the path of this module.
const module = "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji"

// rule is one of depguard's: what files of some folders may not import. "!$test" among the files leaves tests out.
type rule struct {
	Files []string                     `json:"files"`
	Allow []string                     `json:"allow"`
	Deny  []struct{ Pkg, Desc string } `json:"deny"`
}

// listed is what `go list` knows of a package.
type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func TestImportRules(t *testing.T) {
	rules := rules(t)
	if len(rules) == 0 {
		t.Fatal(".golangci.yml has no import rules")
	}
	matched := map[string]bool{}
	for _, p := range packages(t) {
		folder := strings.TrimPrefix(p.ImportPath, module+"/")
		for name, rule := range rules {
			if !rule.covers(folder) {
				continue
			}
			matched[name] = true
			imports := p.Imports
			if !slices.Contains(rule.Files, "!$test") {
				imports = slices.Concat(imports, p.TestImports, p.XTestImports)
			}
			for _, imported := range imports {
				if why, denied := rule.denies(imported); denied {
					t.Errorf("%s imports %s (rule %s): %s", folder, imported, name, why)
				}
			}
		}
	}
	for name := range rules {
		if !matched[name] {
			t.Errorf("rule %s covers no package", name)
		}
	}
}

// covers tells whether a rule is for a folder. The patterns in use are **/folder/**, **/folder/{a,b}/** and !**/name/**.
func (r rule) covers(folder string) bool {
	if slices.ContainsFunc(r.Files, func(pattern string) bool {
		name, negated := strings.CutPrefix(pattern, "!**/")
		return negated && strings.HasSuffix(folder, "/"+strings.TrimSuffix(name, "/**"))
	}) {
		return false
	}
	return slices.ContainsFunc(r.Files, func(pattern string) bool {
		inner := strings.TrimSuffix(strings.TrimPrefix(pattern, "**/"), "/**")
		before, rest, braced := strings.Cut(inner, "{")
		if !braced {
			return within(folder, inner)
		}
		choices, after, _ := strings.Cut(rest, "}")
		return slices.ContainsFunc(strings.Split(choices, ","), func(choice string) bool { return within(folder, before+choice+after) })
	})
}

// within tells whether a folder is another one or below it.
func within(folder, parent string) bool {
	return folder == parent || strings.HasPrefix(folder, parent+"/")
}

// denies tells whether a rule forbids an import, and why. Of several prefixes the longest decides.
func (r rule) denies(imported string) (string, bool) {
	why, longest := "", 0
	for _, deny := range r.Deny {
		pkg, exact := strings.CutSuffix(deny.Pkg, "$")
		if (imported == pkg || !exact && strings.HasPrefix(imported, pkg)) && len(pkg) > longest {
			why, longest = deny.Desc, len(pkg)
		}
	}
	allowed := slices.ContainsFunc(r.Allow, func(pkg string) bool { return strings.HasPrefix(imported, pkg) && len(pkg) > longest })
	return why, longest > 0 && !allowed
}

func rules(t *testing.T) map[string]rule {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(testenv.Root(), ".golangci.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Linters struct {
			Settings struct {
				Depguard struct {
					Rules map[string]rule `json:"rules"`
				} `json:"depguard"`
			} `json:"settings"`
		} `json:"linters"`
	}
	if err := yaml.Unmarshal(content, &config); err != nil {
		t.Fatal(err)
	}
	return config.Linters.Settings.Depguard.Rules
}

func packages(t *testing.T) []listed {
	t.Helper()
	command := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	command.Dir = testenv.Root()
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var all []listed
	for decoder := json.NewDecoder(out); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if err := command.Wait(); err != nil {
		t.Fatalf("listing packages: %v", err)
	}
	return all
}
