// SPDX-License-Identifier: Apache-2.0

package images

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Entry is one file of a layer. Exactly one of Source, Link and Content is
// used; none of them makes a folder, or an empty file when Mode is set.
type Entry struct {
	Source  string // a file of this machine
	Link    string // target of a symbolic link
	Content string
	Mode    int64 // permission bits; 0 is 0755 for sources
}

// Tree maps absolute paths in a layer to what is there. Parent folders are implied.
type Tree map[string]Entry

// layer is an uncompressed tar archive. Layers go no further than the nodes of
// this machine: compressing them would only take time.
type layer struct {
	open   func() (io.ReadCloser, error)
	digest v1.Hash
	size   int64
}

// Layer is the tree as an image layer. The same tree gives the same digest.
func Layer(tree Tree) (v1.Layer, error) {
	return newLayer(func() (io.ReadCloser, error) {
		reader, writer := io.Pipe()
		go func() { writer.CloseWithError(archive(writer, tree)) }()
		return reader, nil
	})
}

// Archived is a tar archive as an image layer.
func Archived(file string) (v1.Layer, error) {
	return newLayer(func() (io.ReadCloser, error) { return os.Open(file) })
}

func newLayer(open func() (io.ReadCloser, error)) (v1.Layer, error) {
	content, err := open()
	if err != nil {
		return nil, err
	}
	defer content.Close()
	digest, size, err := v1.SHA256(content)
	return &layer{open: open, digest: digest, size: size}, err
}

func (l *layer) Digest() (v1.Hash, error)             { return l.digest, nil }
func (l *layer) DiffID() (v1.Hash, error)             { return l.digest, nil }
func (l *layer) Compressed() (io.ReadCloser, error)   { return l.open() }
func (l *layer) Uncompressed() (io.ReadCloser, error) { return l.open() }
func (l *layer) Size() (int64, error)                 { return l.size, nil }
func (l *layer) MediaType() (types.MediaType, error)  { return types.DockerUncompressedLayer, nil }

// archive writes a tree as tar, sorted, owned by root and without times.
func archive(out io.Writer, tree Tree) error {
	writer := tar.NewWriter(out)
	written := map[string]bool{}
	for _, name := range sorted(tree) {
		if err := parents(writer, name, written); err != nil {
			return err
		}
		if err := write(writer, strings.TrimPrefix(name, "/"), tree[name]); err != nil {
			return fmt.Errorf("archiving %s: %w", name, err)
		}
		written[name] = true
	}
	return writer.Close()
}

func sorted(tree Tree) []string {
	var names []string
	for name := range tree {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// parents writes the folders above a file that aren't written yet.
func parents(writer *tar.Writer, name string, written map[string]bool) error {
	dir := path.Dir(name)
	if dir == "/" || written[dir] {
		return nil
	}
	if err := parents(writer, dir, written); err != nil {
		return err
	}
	written[dir] = true
	return writer.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(dir, "/") + "/", Mode: 0o755})
}

func write(writer *tar.Writer, name string, entry Entry) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: entry.Mode}
	switch {
	case entry.Link != "":
		header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, entry.Link, 0o777
		return writer.WriteHeader(header)
	case entry.Source != "":
		return copyIn(writer, header, entry.Source)
	case entry.Content == "" && entry.Mode == 0:
		header.Typeflag, header.Name, header.Mode = tar.TypeDir, name+"/", 0o755
		return writer.WriteHeader(header)
	}
	header.Size = int64(len(entry.Content))
	if header.Mode == 0 {
		header.Mode = 0o644
	}
	if err := writer.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.WriteString(writer, entry.Content)
	return err
}

func copyIn(writer *tar.Writer, header *tar.Header, source string) error {
	file, err := os.Open(source)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	header.Size = info.Size()
	if header.Mode == 0 {
		header.Mode = 0o755
	}
	if err := writer.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(writer, file)
	return err
}
