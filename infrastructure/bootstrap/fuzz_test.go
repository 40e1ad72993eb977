// SPDX-License-Identifier: Apache-2.0

package bootstrap_test

import (
	"errors"
	"path"
	"strings"
	"testing"

	"sigs.k8s.io/cluster-api/bootstrap/kubeadm/pkg/cloudinit"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/bootstrap"
)

// FuzzBuild: whatever the bytes, the answer is an InvalidError or a payload that is safe to hand to a host.
func FuzzBuild(f *testing.F) {
	for _, in := range []*cloudinit.NodeInput{{JoinConfiguration: joinV1Beta4}, {JoinConfiguration: joinV1Beta3}} {
		data, err := cloudinit.NewNode(in)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(document("mounts: [[a, /b]]\nusers: [{name: a}]\ndisk_setup: {/dev/sda: {layout: [[1, 83]]}}\n")))
	f.Add([]byte(document("fs_setup: [{device: /dev/a, filesystem: ext4}]\nntp: {servers: [a]}\nbootcmd: ['{{ v1.region }}']\n")))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := bootstrap.Build(input(data))
		if err != nil {
			var invalid *bootstrap.InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		injected := false
		for _, a := range p.Actions {
			if a.File == nil {
				continue
			}
			if !path.IsAbs(a.File.Path) || strings.ContainsAny(a.File.Path, "\n\x00") {
				t.Errorf("unsafe path %q", a.File.Path)
			}
			injected = injected || a.File.Path == bootstrap.JoinConfigPath && strings.Contains(string(a.File.Content), "rack://host/claim")
		}
		if !injected {
			t.Error("the provider ID is not in the payload")
		}
	})
}
