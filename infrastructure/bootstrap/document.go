// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// field reads one key of a mapping.
type field func(n *yaml.Node, path string) error

func invalid(path, format string, args ...any) error {
	return &InvalidError{Path: path, Reason: fmt.Sprintf(format, args...)}
}

// document returns the root mapping of a single YAML document.
func document(data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, invalid("document", "empty")
		}
		return nil, invalid("document", "not YAML: %s", syntaxError(err))
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, invalid("document", "more than one YAML document")
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, invalid("document", "not a mapping of modules")
	}
	return root, nil
}

// syntaxError keeps the parser's position and leaves out what it quotes, which may be secret.
func syntaxError(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if strings.HasPrefix(text, "line ") {
		if i := strings.IndexAny(text, "`\""); i > 0 {
			text = text[:i]
		}
		return clip(text)
	}
	return "syntax error"
}

// mapping hands each key of n to its reader; an unknown or repeated key is an error that names it.
func mapping(n *yaml.Node, path string, fields map[string]field) error {
	if n.Kind != yaml.MappingNode {
		return invalid(path, "must be a mapping")
	}
	seen := map[string]bool{}
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		name := key.Value
		if key.Kind != yaml.ScalarNode {
			return invalid(path, "key on line %d is not a name", key.Line)
		}
		read, known := fields[name]
		at := join(path, clip(name))
		switch {
		case !known && path == "":
			return invalid(at, "module is not supported (line %d)", key.Line)
		case !known:
			return invalid(at, "key is not supported (line %d)", key.Line)
		case seen[name]:
			return invalid(at, "given twice (line %d)", key.Line)
		}
		seen[name] = true
		if err := read(n.Content[i+1], at); err != nil {
			return err
		}
	}
	return nil
}

// list hands each element of n to read; null is an empty list.
func list(n *yaml.Node, path string, read field) error {
	if null(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		return invalid(path, "must be a list")
	}
	for i, item := range n.Content {
		if err := read(item, fmt.Sprintf("%s[%d]", path, i)); err != nil {
			return err
		}
	}
	return nil
}

func null(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// text reads any scalar as it was written.
func text(into *string) field {
	return func(n *yaml.Node, path string) error {
		if n.Kind != yaml.ScalarNode {
			return invalid(path, "must be a string")
		}
		if !null(n) {
			*into = n.Value
		}
		return nil
	}
}

// line reads a scalar of one line without control characters: it ends up in an argument or a line of a file.
func line(into *string) field {
	return func(n *yaml.Node, path string) error {
		if err := text(into)(n, path); err != nil {
			return err
		}
		if strings.ContainsFunc(*into, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return invalid(path, "must be one line without control characters")
		}
		return nil
	}
}

// lines reads a list of such scalars.
func lines(into *[]string) field {
	return func(n *yaml.Node, path string) error {
		return list(n, path, func(n *yaml.Node, path string) error {
			var s string
			if err := line(&s)(n, path); err != nil {
				return err
			}
			*into = append(*into, s)
			return nil
		})
	}
}

func boolean(into *bool) field {
	return func(n *yaml.Node, path string) error {
		v, err := strconv.ParseBool(n.Value)
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || err != nil {
			return invalid(path, "must be true or false")
		}
		*into = v
		return nil
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
