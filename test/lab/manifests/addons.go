// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"bytes"
	_ "embed"
	"fmt"
	"net/netip"
	"text/template"
)

// KubeRouter is the YAML of what enforces NetworkPolicies in the management cluster.
//
//go:embed kube-router.yaml
var KubeRouter string

//go:embed metallb.yaml
var metalLB string

var metalLBTemplate = template.Must(template.New("metallb").Option("missingkey=error").Parse(metalLB))

// MetalLBPool is the YAML that gives MetalLB a range of addresses, both ends included.
func MetalLBPool(first, last netip.Addr) (string, error) {
	var out bytes.Buffer
	if err := metalLBTemplate.Execute(&out, map[string]string{"First": first.String(), "Last": last.String()}); err != nil {
		return "", fmt.Errorf("rendering MetalLB's pool: %w", err)
	}
	return out.String(), nil
}
