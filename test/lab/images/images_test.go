// SPDX-License-Identifier: Apache-2.0

package images

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// list is a tar archive in words: type, mode, name and what it points to or holds.
func list(t *testing.T, content io.Reader) []string {
	t.Helper()
	var lines []string
	for reader := tar.NewReader(content); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%c %o %s %s%s", header.Typeflag, header.Mode, header.Name, header.Linkname, text))
	}
}

func TestLayerHoldsItsTree(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!"), 0o600); err != nil {
		t.Fatal(err)
	}
	layer, err := Layer(Tree{
		"/usr/bin/program": {Source: program},
		"/usr/bin/other":   {Link: "program"},
		"/etc/setting":     {Content: "on"},
		"/etc/secret":      {Content: "x", Mode: 0o600},
		"/var/empty":       {},
	})
	if err != nil {
		t.Fatal(err)
	}
	content, err := layer.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	want := []string{
		"5 755 etc/ ", "0 600 etc/secret x", "0 644 etc/setting on",
		"5 755 usr/ ", "5 755 usr/bin/ ", "2 777 usr/bin/other program", "0 755 usr/bin/program #!",
		"5 755 var/ ", "5 755 var/empty/ ",
	}
	if diff := cmp.Diff(want, list(t, content)); diff != "" {
		t.Error(diff)
	}
}

func TestWriteMakesAnArchiveThatEnginesRead(t *testing.T) {
	layer, err := Layer(Tree{"/program": {Content: "#!", Mode: 0o755}})
	if err != nil {
		t.Fatal(err)
	}
	image, err := Assemble(v1.Config{Entrypoint: []string{"/program"}, User: "65532"}, layer)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "images.tar")
	if err := Write(file, map[string]v1.Image{"kamaji.lab/one:v1": image, "kamaji.lab/two:v1": image}); err != nil {
		t.Fatal(err)
	}
	for _, full := range []string{"kamaji.lab/one:v1", "kamaji.lab/two:v1"} {
		tag, err := name.NewTag(full)
		if err != nil {
			t.Fatal(err)
		}
		read, err := tarball.ImageFromPath(file, &tag)
		if err != nil {
			t.Fatal(err)
		}
		config, err := read.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Config.User != "65532" || config.OS != "linux" || len(config.RootFS.DiffIDs) != 1 {
			t.Errorf("%s reads as %+v", full, config)
		}
	}
}

func TestPullTakesWhatTheRegistryHas(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	full := strings.TrimPrefix(server.URL, "http://") + "/pause:1"
	layer, err := Layer(Tree{"/pause": {Content: "#!", Mode: 0o755}})
	if err != nil {
		t.Fatal(err)
	}
	image, err := Assemble(v1.Config{Entrypoint: []string{"/pause"}}, layer)
	if err != nil {
		t.Fatal(err)
	}
	reference, err := name.ParseReference(full)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(reference, image); err != nil {
		t.Fatal(err)
	}
	pulled, err := Pull{}.Image(t.Context(), spec{name: full})
	if err != nil {
		t.Fatal(err)
	}
	want, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pulled.Digest(); err != nil || got != want {
		t.Errorf("pulled %v (%v), want %v", got, err, want)
	}
}

func TestReachable(t *testing.T) {
	for status, want := range map[int]bool{http.StatusOK: true, http.StatusUnauthorized: true, http.StatusForbidden: false, http.StatusBadGateway: false} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		if got := reachable(t.Context(), server.URL); got != want {
			t.Errorf("a registry that says %d counts as reachable=%v", status, got)
		}
		server.Close()
	}
}
