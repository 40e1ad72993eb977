// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"regexp"
)

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

var providerIDRule = regexp.MustCompile(`^[a-z0-9+.-]+://[A-Za-z0-9._/-]+$`)

// Build makes the payload. Errors are InvalidError; they name keys and lines, never values that could be secret.
func Build(in Input) (Payload, error) {
	if in.Format != "" && in.Format != "cloud-config" {
		return Payload{}, invalid("format", "%q is not supported on this kind of host (cloud-config)", clip(in.Format))
	}
	if !providerIDRule.MatchString(in.ProviderID) {
		return Payload{}, invalid("provider ID", "%q is malformed", clip(in.ProviderID))
	}
	data, err := render(in.Data, in.Host)
	if err != nil {
		return Payload{}, err
	}
	config, err := parse(data)
	if err != nil {
		return Payload{}, err
	}
	if err := config.inject(in.ProviderID); err != nil {
		return Payload{}, err
	}
	if joinCommand(config.runcmd) < 0 {
		return Payload{}, invalid("runcmd", "has no kubeadm join; only workers bootstrapped by kubeadm are supported")
	}
	return Seal(config.actions(), Sentinel), nil
}

// inject edits the JoinConfiguration; the last writer of the path is the one that counts on the host.
func (c *cloudConfig) inject(providerID string) error {
	for i := len(c.files) - 1; i >= 0; i-- {
		f := &c.files[i]
		if f.Path != JoinConfigPath {
			continue
		}
		content, err := withProviderID(f.Content, providerID)
		if err != nil {
			return err
		}
		f.Content, f.Secret = content, true
		return nil
	}
	return invalid("write_files", "has no %s; only workers bootstrapped by kubeadm are supported", JoinConfigPath)
}

// Seal makes a Payload of actions and computes its hash.
func Seal(actions []Action, sentinel string) Payload {
	// Plain structs of strings, numbers and bytes: encoding can't fail, and the order of fields is fixed.
	document, err := json.Marshal(struct {
		Actions  []Action
		Sentinel string
	}{actions, sentinel})
	if err != nil {
		panic(err)
	}
	return Payload{Actions: actions, Sentinel: sentinel, Hash: fmt.Sprintf("%x", sha256.Sum256(document))}
}
