// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	ours       = regexp.MustCompile(`\b(kamaji_[a-z_]+?)(_bucket|_sum|_count)?\b`)
	registered = regexp.MustCompile(`"(kamaji_[a-z_]+)"`)
)

// Every metric of ours that a dashboard asks for is one that the code registers.
func TestDashboardsAskForMetricsThatExist(t *testing.T) {
	known := map[string]bool{}
	for _, tree := range []string{"controlplane", "internal"} {
		err := filepath.WalkDir(filepath.Join("../..", tree), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			for _, match := range registered.FindAllSubmatch(source, -1) {
				known[string(match[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob("../../config/monitoring/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	identities := map[string]string{}
	for _, file := range files {
		dashboard := readDashboard(t, file)
		if other := identities[dashboard.UID]; other != "" || dashboard.UID == "" {
			t.Errorf("%s and %s have the uid %q", file, other, dashboard.UID)
		}
		identities[dashboard.UID] = file
		for _, panel := range dashboard.Panels {
			if panel.Title == "" || len(panel.Targets) == 0 {
				t.Errorf("%s: panel %q shows nothing", file, panel.Title)
			}
			for _, target := range panel.Targets {
				for _, match := range ours.FindAllStringSubmatch(target.Expr, -1) {
					if !known[match[1]] {
						t.Errorf("%s: panel %q asks for %s, which nothing registers", file, panel.Title, match[1])
					}
				}
			}
		}
	}
}

// dashboard is the part of Grafana's model that is checked.
type dashboard struct {
	UID    string
	Panels []struct {
		Title   string
		Targets []struct{ Expr string }
	}
}

func readDashboard(t *testing.T, file string) dashboard {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out dashboard
	if err := json.Unmarshal(content, &out); err != nil {
		t.Fatalf("reading %s: %v", file, err)
	}
	return out
}
