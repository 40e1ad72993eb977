// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestRewriteTakesWhatNeedsTheCapability(t *testing.T) {
	dir := t.TempDir()
	process := `{"args": ["sh"], "oomScoreAdj": -997, "capabilities": {"bounding": ["CAP_NET_ADMIN", "CAP_SYS_RESOURCE"]},
		"rlimits": [{"type": "RLIMIT_CORE", "hard": 0, "soft": 0}, {"type": "RLIMIT_NOFILE", "hard": 18446744073709551615, "soft": 1}]}`
	want := map[string]any{
		"args": []any{"sh"}, "oomScoreAdj": 0.0, "capabilities": map[string]any{"bounding": []any{"CAP_NET_ADMIN"}},
		"rlimits": []any{map[string]any{"type": "RLIMIT_CORE", "hard": 0.0, "soft": 0.0}},
	}
	for _, test := range []struct {
		name, file, content string
		args                []string
		inner               bool
	}{
		{"create", "config.json", `{"process": ` + process + `}`, []string{"--root", "/run", "create", "--bundle", dir, "id"}, true},
		{"exec", "process.json", process, []string{"exec", "--process=" + filepath.Join(dir, "process.json"), "id"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(dir, test.file)
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := rewrite(test.args); err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]any{}
			if err := json.Unmarshal(content, &got); err != nil {
				t.Fatal(err)
			}
			if test.inner {
				got, _ = got["process"].(map[string]any)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("rewritten to %s", content)
			}
		})
	}
}

func TestRewriteLeavesOtherCommandsAlone(t *testing.T) {
	for _, args := range [][]string{{"state", "id"}, {"exec", "id", "sh"}, {"create", "--bundle", t.TempDir(), "id"}, nil} {
		if err := rewrite(args); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
}
