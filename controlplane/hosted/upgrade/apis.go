// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"
)

// API is a deprecated resource that somebody has asked the tenant's API server for.
type API struct {
	// Group, Version and Resource as in its URL; the core group is empty.
	Group, Version, Resource string
	// Removed is the release without it, "1.32", or empty when none is planned.
	Removed string
}

// apis names the resources in use that the version no longer has, five at most.
func (p Preflight) apis() []string {
	var gone []string
	for _, api := range p.APIs {
		removed, err := version.ParseMajorMinor(api.Removed)
		if err == nil && int(removed.Minor()) <= Minor(p.To) {
			gone = append(gone, strings.TrimPrefix(api.Group+"/"+api.Version, "/")+" "+api.Resource)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	slices.Sort(gone)
	gone = slices.Compact(gone)
	more := ""
	if extra := len(gone) - 5; extra > 0 {
		gone, more = gone[:5], fmt.Sprintf(" and %d more", extra)
	}
	return []string{fmt.Sprintf("clients of the tenant have asked for what %s no longer has: %s%s; have them use a newer version of these APIs, "+
		"which is noticed when the API server starts anew", p.To, strings.Join(gone, ", "), more)}
}
