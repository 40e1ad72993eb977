// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"reflect"
)

// contains tells whether every field of want is in have with the same value. Fields that only have has are ignored:
// they are defaults, or somebody else's.
func contains(have, want any) bool {
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			return len(w) == 0 && have == nil
		}
		for key, value := range w {
			if !contains(h[key], value) {
				return false
			}
		}
		return true
	case []any:
		h, ok := have.([]any)
		return ok && containsList(h, w) || !ok && len(w) == 0
	default:
		return equalScalar(have, want)
	}
}

// containsList compares lists of named items by name and others by position, except owner references (by uid) and
// plain string lists of metadata such as finalizers, which other managers extend: those only need to include ours
// and are shorter than have.
func containsList(have, want []any) bool {
	if key := mergeKey(want); key != "" {
		byKey := make(map[any]any, len(have))
		for _, item := range have {
			if m, ok := item.(map[string]any); ok {
				byKey[m[key]] = item
			}
		}
		for _, item := range want {
			if !contains(byKey[item.(map[string]any)[key]], item) {
				return false
			}
		}
		return true
	}
	if len(have) < len(want) {
		return false
	}
	for i := range want {
		if !contains(have[i], want[i]) {
			return false
		}
	}
	return len(have) == len(want)
}

// mergeKey is the field that names the items of list, or "" when they have none.
func mergeKey(list []any) string {
	for _, key := range []string{"uid", "name", "mountPath"} {
		named := len(list) > 0
		seen := map[any]bool{}
		for _, item := range list {
			m, ok := item.(map[string]any)
			if !ok || m[key] == nil || seen[m[key]] {
				named = false
				break
			}
			seen[m[key]] = true
		}
		if named {
			return key
		}
	}
	return ""
}

func equalScalar(have, want any) bool {
	if reflect.DeepEqual(have, want) {
		return true
	}
	h, hok := number(have)
	w, wok := number(want)
	if hok && wok {
		return h == w
	}
	// A false, zero or empty value that the server leaves out is the same as absent.
	return have == nil && want != nil && reflect.ValueOf(want).IsZero()
}

func number(v any) (float64, bool) {
	switch n := v.(type) {
	case int64:
		return float64(n), true
	case float64:
		return n, true
	default:
		return 0, false
	}
}
