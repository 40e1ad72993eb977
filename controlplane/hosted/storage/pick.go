// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Candidate is a DataStore that a tenant may be given.
type Candidate struct {
	Name string
	// Usable is empty for a store that takes tenants, else why it does not.
	Usable string
	// Tenants is how many use it, Max how many may, 0 for any number.
	Tenants, Max int
}

// full reports whether the store takes no more.
func (c Candidate) full() bool { return c.Max > 0 && c.Tenants >= c.Max }

// Pick returns the store with the smallest part of its capacity in use. One without
// a limit counts as large as the largest of the others. Of equal ones the one with
// fewer tenants is taken, then the first by name. If none fits, it tells of each why.
func Pick(candidates []Candidate) (name string, why string) {
	largest := 1
	for _, c := range candidates {
		largest = max(largest, c.Max)
	}
	var fit []Candidate
	var problems []string
	for _, c := range candidates {
		switch {
		case c.Usable != "":
			problems = append(problems, c.Name+" "+c.Usable)
		case c.full():
			problems = append(problems, fmt.Sprintf("%s has %d of %d tenants", c.Name, c.Tenants, c.Max))
		default:
			if c.Max == 0 {
				c.Max = largest
			}
			fit = append(fit, c)
		}
	}
	if len(fit) == 0 {
		slices.Sort(problems)
		return "", strings.Join(problems, "; ")
	}
	best := slices.MinFunc(fit, func(a, b Candidate) int {
		// Fractions are compared without dividing.
		return cmp.Or(cmp.Compare(a.Tenants*b.Max, b.Tenants*a.Max), cmp.Compare(a.Tenants, b.Tenants), cmp.Compare(a.Name, b.Name))
	})
	return best.Name, ""
}
