// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"maps"
	"slices"
	"strings"
)

// flags are arguments by name, without dashes.
type flags map[string]string

// arguments merges the arguments of a component. Those in fixed are needed for the
// component to fit the rest and win over the user's, which win over defaults. The
// user's come last, as written, since a flag may be given more than once.
func arguments(fixed, defaults flags, user []string) []string {
	out := make([]string, 0, len(fixed)+len(defaults)+len(user))
	all := flags{}
	maps.Copy(all, fixed)
	for name, value := range defaults {
		if !given(user, name) {
			all[name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, "--"+name+"="+all[name])
	}
	for _, arg := range user {
		if _, taken := fixed[flagName(arg)]; !taken {
			out = append(out, arg)
		}
	}
	return out
}

func flagName(arg string) string {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	return name
}

func given(user []string, name string) bool {
	return slices.ContainsFunc(user, func(arg string) bool { return flagName(arg) == name })
}

func mentions(user []string, name, value string) bool {
	return slices.ContainsFunc(user, func(arg string) bool {
		_, values, _ := strings.Cut(arg, "=")
		return flagName(arg) == name && slices.Contains(strings.Split(values, ","), value)
	})
}
