// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"bytes"
	"errors"
	"io"

	"go.yaml.in/yaml/v3"
)

const (
	kubeadmV1Beta3 = "kubeadm.k8s.io/v1beta3"
	kubeadmV1Beta4 = "kubeadm.k8s.io/v1beta4"
	providerIDArg  = "provider-id"
)

// withProviderID adds the kubelet argument to the JoinConfiguration and leaves the rest as it was written. The node
// then registers with its provider ID, and no credentials of the tenant cluster are needed to set it later.
func withProviderID(config []byte, providerID string) ([]byte, error) {
	var (
		out  bytes.Buffer
		done bool
		dec  = yaml.NewDecoder(bytes.NewReader(config))
		enc  = yaml.NewEncoder(&out)
	)
	enc.SetIndent(2)
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, invalid(JoinConfigPath, "not YAML: %s", syntaxError(err))
		}
		if len(doc.Content) == 0 || null(doc.Content[0]) {
			continue
		}
		root := doc.Content[0]
		if value(root, "kind") == "JoinConfiguration" {
			if err := setProviderID(root, providerID); err != nil {
				return nil, err
			}
			done = true
		}
		if err := enc.Encode(&doc); err != nil {
			return nil, invalid(JoinConfigPath, "can't be written back")
		}
	}
	if !done {
		return nil, invalid(JoinConfigPath, "holds no JoinConfiguration")
	}
	if err := enc.Close(); err != nil {
		return nil, invalid(JoinConfigPath, "can't be written back")
	}
	return out.Bytes(), nil
}

func setProviderID(root *yaml.Node, providerID string) error {
	registration, err := child(root, "nodeRegistration", yaml.MappingNode)
	if err != nil {
		return err
	}
	switch version := value(root, "apiVersion"); version {
	case kubeadmV1Beta3:
		args, err := child(registration, "kubeletExtraArgs", yaml.MappingNode)
		if err != nil {
			return err
		}
		if lookup(args, providerIDArg) != nil {
			return errProviderIDSet
		}
		args.Content = append(args.Content, scalar(providerIDArg), scalar(providerID))
	case kubeadmV1Beta4:
		args, err := child(registration, "kubeletExtraArgs", yaml.SequenceNode)
		if err != nil {
			return err
		}
		for _, arg := range args.Content {
			if value(arg, "name") == providerIDArg {
				return errProviderIDSet
			}
		}
		args.Content = append(args.Content, &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map",
			Content: []*yaml.Node{scalar("name"), scalar(providerIDArg), scalar("value"), scalar(providerID)}})
	default:
		return invalid(JoinConfigPath, "apiVersion %q is not supported (%s, %s)", clip(version), kubeadmV1Beta3, kubeadmV1Beta4)
	}
	return nil
}

var errProviderIDSet = invalid(JoinConfigPath, "kubeletExtraArgs already has %s, which the infrastructure provider sets", providerIDArg)

// child returns the named collection of a mapping and makes it where it is missing or null.
func child(n *yaml.Node, name string, kind yaml.Kind) (*yaml.Node, error) {
	c := lookup(n, name)
	if c == nil {
		c = &yaml.Node{}
		n.Content = append(n.Content, scalar(name), c)
	}
	if c.Kind == 0 || null(c) {
		*c = yaml.Node{Kind: kind}
	}
	if c.Kind != kind {
		return nil, invalid(JoinConfigPath, "%s has the wrong type for this apiVersion", name)
	}
	if len(c.Content) == 0 {
		c.Style = 0
	}
	return c, nil
}

func lookup(n *yaml.Node, name string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

func value(n *yaml.Node, name string) string {
	if v := lookup(n, name); v != nil && v.Kind == yaml.ScalarNode {
		return v.Value
	}
	return ""
}

func scalar(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }
