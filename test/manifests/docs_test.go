// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

var (
	reasonRow = regexp.MustCompile("(?m)^\\| (`[A-Za-z]+`(?:, `[A-Za-z]+`)*) \\|")
	code      = regexp.MustCompile("`([^`]+)`")
	constant  = regexp.MustCompile(`(?m)^\s*(?:const )?(\w+)(?: \w+)? += "(\w+)"$`)
	tableRow  = regexp.MustCompile(`(?m)^\| [^|]+ \|([^|]+)\|$`)
	link      = regexp.MustCompile(`\]\(([^)#]+)`)
)

// Every reason that docs/troubleshooting.md explains is one that the code can report: it is written where it is used,
// or a constant with that value is used.
func TestTroubleshootingKnowsOnlyRealReasons(t *testing.T) {
	content, err := read("docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, tree := range []string{"controlplane", "infrastructure"} {
		err := filepath.WalkDir(filepath.Join(testenv.Root(), tree), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			content, err := os.ReadFile(path)
			source.Write(content)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	named := map[string][]string{}
	for _, match := range constant.FindAllStringSubmatch(source.String(), -1) {
		named[match[2]] = append(named[match[2]], match[1])
	}
	uses := constant.ReplaceAllString(source.String(), "")
	reported := func(reason string) bool {
		return strings.Contains(uses, `"`+reason+`"`) || slices.ContainsFunc(named[reason], func(name string) bool {
			return regexp.MustCompile(`(?m)^[^/]*\b` + name + `\b`).MatchString(uses)
		})
	}
	rows := reasonRow.FindAllStringSubmatch(string(content), -1)
	if len(rows) == 0 {
		t.Fatal("no table of reasons")
	}
	for _, row := range rows {
		for _, reason := range code.FindAllStringSubmatch(row[1], -1) {
			if !reported(reason[1]) {
				t.Errorf("nothing reports reason %s", reason[1])
			}
		}
	}
}

// Every folder and file in "Where do I change X?", and every link of the documents, exists.
func TestDocumentsNameWhatExists(t *testing.T) {
	content, err := read("docs/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(content), "## Where do I change X?")
	if !found {
		t.Fatal(`docs/README.md has no "Where do I change X?"`)
	}
	for _, row := range tableRow.FindAllStringSubmatch(table, -1) {
		for _, name := range code.FindAllStringSubmatch(row[1], -1) {
			path := name[1]
			if !strings.Contains(path, "/") || strings.ContainsAny(path, "<:+") {
				continue
			}
			matches, err := filepath.Glob(filepath.Join(testenv.Root(), path))
			if err != nil || len(matches) == 0 {
				t.Errorf("docs/README.md names %s, which doesn't exist", path)
			}
		}
	}
	documents := []string{"README.md"}
	more, err := filepath.Glob(filepath.Join(testenv.Root(), "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	proposals, err := filepath.Glob(filepath.Join(testenv.Root(), "docs", "proposals", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(more, proposals...) {
		name, err := filepath.Rel(testenv.Root(), path)
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, name)
	}
	for _, document := range documents {
		content, err := read(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range link.FindAllStringSubmatch(string(content), -1) {
			if strings.Contains(target[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(testenv.Root(), filepath.Dir(document), target[1])); err != nil {
				t.Errorf("%s links to %s, which doesn't exist", document, target[1])
			}
		}
	}
}

// Every test that docs/kamaji.md names exists, and so does the part of it after the slash.
func TestKamajiPageNamesRealTests(t *testing.T) {
	content, err := read("docs/kamaji.md")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, tree := range []string{"cmd", "controlplane", "internal", "test"} {
		err := filepath.WalkDir(filepath.Join(testenv.Root(), tree), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			content, err := os.ReadFile(path)
			source.Write(content)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	named := 0
	for _, span := range code.FindAllStringSubmatch(string(content), -1) {
		test, part, _ := strings.Cut(span[1], "/")
		if !strings.HasPrefix(test, "Test") {
			continue
		}
		named++
		if !strings.Contains(source.String(), "func "+test+"(t *testing.T)") {
			t.Errorf("there is no test %s", test)
		}
		if strings.HasSuffix(part, ".yaml") {
			if _, err := os.Stat(filepath.Join(testenv.Root(), "test/api", part)); err != nil {
				t.Error(err)
			}
		} else if part != "" && !strings.Contains(source.String(), `t.Run("`+part+`"`) {
			t.Errorf("%s has no part %q", test, part)
		}
	}
	if named == 0 {
		t.Error("no test is named")
	}
}
