// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds what a compressed file may grow to: a Secret holds 1 MiB, and no file of a bootstrap is this big.
const maxFile = 32 << 20

var (
	permissions = regexp.MustCompile(`^(0o?)?[0-7]{3,4}$`)
	owner       = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$`)
)

func (c *cloudConfig) readFiles(n *yaml.Node, p string) error {
	return list(n, p, func(n *yaml.Node, p string) error {
		f := File{Permissions: "0644", Owner: "root:root"}
		var encoding, content string
		if err := mapping(n, p, map[string]field{
			"path":        line(&f.Path),
			"encoding":    line(&encoding),
			"owner":       line(&f.Owner),
			"permissions": line(&f.Permissions),
			"append":      boolean(&f.Append),
			"content":     text(&content),
		}); err != nil {
			return err
		}
		switch {
		case !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/":
			return invalid(p+".path", "%q is not a clean absolute path", clip(f.Path))
		case !permissions.MatchString(f.Permissions):
			return invalid(p+".permissions", "%q is not an octal mode", clip(f.Permissions))
		case !owner.MatchString(f.Owner):
			return invalid(p+".owner", "%q is not user or user:group", clip(f.Owner))
		}
		f.Permissions = "0" + strings.TrimLeft(f.Permissions, "0o")
		var err error
		if f.Content, err = decode(encoding, content); err != nil {
			return invalid(p, "%v", err)
		}
		c.files = append(c.files, f)
		return nil
	})
}

// decode undoes the encodings the bootstrap provider's API allows.
func decode(encoding, content string) ([]byte, error) {
	switch encoding {
	case "":
		return []byte(content), nil
	case "base64":
		return unbase64(content)
	case "gzip":
		return gunzip([]byte(content))
	case "gzip+base64":
		packed, err := unbase64(content)
		if err != nil {
			return nil, err
		}
		return gunzip(packed)
	}
	return nil, fmt.Errorf("encoding %q is not supported (base64, gzip, gzip+base64)", clip(encoding))
}

func unbase64(s string) ([]byte, error) {
	out, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		return nil, errors.New("content is not base64")
	}
	return out, nil
}

func gunzip(b []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, errors.New("content is not gzip")
	}
	// The bootstrap provider's template ends every content with a newline, which is no second gzip member.
	r.Multistream(false)
	out, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	switch {
	case err != nil:
		return nil, errors.New("content is damaged gzip")
	case len(out) > maxFile:
		return nil, fmt.Errorf("content is more than %d bytes when unpacked", maxFile)
	}
	return out, nil
}
