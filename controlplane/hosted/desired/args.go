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
	for i := 0; i < len(user); i++ {
		if _, taken := fixed[flagName(user[i])]; !taken {
			out = append(out, user[i])
		} else if valueApart(user, i) {
			i++
		}
	}
	return out
}

// flagName is the name of the flag in an argument, or "" if the argument is none.
func flagName(arg string) string {
	flag := strings.TrimLeft(arg, "-")
	if flag == arg {
		return ""
	}
	name, _, _ := strings.Cut(flag, "=")
	return name
}

// valueApart tells whether the value of the flag in args[i] is the argument after it.
func valueApart(args []string, i int) bool {
	return !strings.Contains(args[i], "=") && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-")
}

func given(user []string, name string) bool {
	return slices.ContainsFunc(user, func(arg string) bool { return flagName(arg) == name })
}

// values are those of a flag, which may be given more than once, with a "=" or as an argument of their own.
func values(args []string, name string) []string {
	var out []string
	for i, arg := range args {
		if flagName(arg) != name {
			continue
		}
		if _, value, ok := strings.Cut(arg, "="); ok {
			out = append(out, value)
		} else if valueApart(args, i) {
			out = append(out, args[i+1])
		}
	}
	return out
}

// mentions tells whether value is in one of the lists of a flag.
func mentions(user []string, name, value string) bool {
	return slices.ContainsFunc(values(user, name), func(list string) bool { return slices.Contains(strings.Split(list, ","), value) })
}
