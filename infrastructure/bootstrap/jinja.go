// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// jinjaHeader is what cloud-init looks for on the first line.
var jinjaHeader = regexp.MustCompile(`^##\s*template:\s*jinja\s*$`)

var expression = regexp.MustCompile(`^\s*([a-z0-9_]+(?:\.[a-z0-9_]+)*)\s*$`)

// safeValue: facts end up inside YAML and shell, wherever the author put the expression.
var safeValue = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,252}$`)

// render replaces expressions when the document asks for it by its first line. It knows the variables below and
// rejects the rest of jinja: an expression left in place would become a file's content or a node's name.
func render(data []byte, host Host) ([]byte, error) {
	first, _, _ := bytes.Cut(data, []byte("\n"))
	if !jinjaHeader.Match(bytes.TrimRight(first, "\r")) {
		return data, nil
	}
	for _, mark := range []string{"{%", "{#"} {
		if i := bytes.Index(data, []byte(mark)); i >= 0 {
			return nil, &InvalidError{Path: position(data, i), Reason: fmt.Sprintf("jinja %q is not supported, only {{ variable }}", mark)}
		}
	}
	values := variables(host)
	var out bytes.Buffer
	rest := data
	for {
		open := bytes.Index(rest, []byte("{{"))
		if open < 0 {
			out.Write(rest)
			return out.Bytes(), nil
		}
		at := position(data, len(data)-len(rest)+open)
		end := bytes.Index(rest[open:], []byte("}}"))
		if end < 0 {
			return nil, &InvalidError{Path: at, Reason: "jinja expression without end"}
		}
		value, err := evaluate(string(rest[open+2:open+end]), values)
		if err != nil {
			return nil, &InvalidError{Path: at, Reason: err.Error()}
		}
		out.Write(rest[:open])
		out.WriteString(value)
		rest = rest[open+end+2:]
	}
}

func evaluate(expr string, values map[string]string) (string, error) {
	m := expression.FindStringSubmatch(expr)
	if m == nil {
		return "", fmt.Errorf("jinja expression %q is not supported, only a variable's name", clip(expr))
	}
	value, known := values[m[1]]
	switch {
	case !known:
		return "", fmt.Errorf("jinja variable %q is not known for this host", clip(m[1]))
	case !safeValue.MatchString(value):
		return "", fmt.Errorf("host has no usable value for jinja variable %q", m[1])
	}
	return value, nil
}

// variables under the names cloud-init gives them: as the data source has them, and standardised in v1.
func variables(h Host) map[string]string {
	short, _, _ := strings.Cut(h.Hostname, ".")
	values := map[string]string{}
	for name, value := range map[string]string{
		"local_hostname":    short,
		"instance_id":       h.InstanceID,
		"availability_zone": h.FailureDomain,
		"region":            h.FailureDomain,
	} {
		values["ds.meta_data."+name] = value
		values["v1."+name] = value
	}
	values["ds.meta_data.hostname"] = h.Hostname
	return values
}

func position(data []byte, offset int) string {
	return fmt.Sprintf("line %d", 1+bytes.Count(data[:offset], []byte("\n")))
}

// clip keeps foreign text in errors short and on one line; conditions carry them.
func clip(s string) string {
	const most = 60
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > most {
		s = s[:most] + "…"
	}
	return s
}
