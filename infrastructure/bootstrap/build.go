// SPDX-License-Identifier: Apache-2.0

package bootstrap

import "fmt"

// Input is all that a Payload depends on.
type Input struct {
	// Data is the value of the bootstrap Secret.
	Data []byte
	// Format is the Secret's "format" key; empty means cloud-config, the contract's default.
	Format string
	// ProviderID the kubelet shall register with.
	ProviderID string
	// Host facts for {{ ds.meta_data.X }} and {{ v1.X }}.
	Host Host
}

// Host holds what the templates in bootstrap data may ask for.
type Host struct {
	// Hostname, e.g. "rack1-07" or "rack1-07.example.com"; local_hostname is its first label.
	Hostname string
	// InstanceID identifies this use of the host; cloud-init calls it instance-id.
	InstanceID string
	// FailureDomain is rendered for availability_zone and region.
	FailureDomain string
}

// InvalidError: the bootstrap data can't be carried out as it stands; whoever wrote it must change it.
type InvalidError struct {
	// Path into the document: "write_files[2].encoding".
	Path   string
	Reason string
}

func (e *InvalidError) Error() string { return fmt.Sprintf("bootstrap data: %s: %s", e.Path, e.Reason) }
