// SPDX-License-Identifier: Apache-2.0

//go:build node

package main

import (
	"context"

	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app"
	kubeadmutil "k8s.io/kubernetes/cmd/kubeadm/app/util/errors"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func init() {
	components["kubelet"] = func() { server(kubelet.NewKubeletCommand(context.Background())) }
	components["kubeadm"] = func() { kubeadmutil.HandleError(kubeadm.Run()) }
}
