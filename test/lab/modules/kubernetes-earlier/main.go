// SPDX-License-Identifier: Apache-2.0

// Command kubernetes is the control plane of an earlier Kubernetes, in one
// binary: the name it is called by, or its first argument, selects the
// component. Every version has a go.mod of its own, as in 1.35.mod. With the
// build tag "node" it is kubelet and kubeadm as well; their entry points have
// this form since 1.34.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	_ "time/tzdata" // CronJob time zones, as in the upstream mains

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// components maps a program name to its main function, which doesn't return
// unless it succeeded.
var components = map[string]func(){
	"kube-apiserver":          func() { server(apiserver.NewAPIServerCommand()) },
	"kube-controller-manager": func() { server(controllermanager.NewControllerManagerCommand()) },
	"kube-scheduler":          func() { server(scheduler.NewSchedulerCommand()) },
	"kube-proxy":              func() { server(proxy.NewProxyCommand()) },
}

func main() {
	name := filepath.Base(os.Args[0])
	if _, known := components[name]; !known && len(os.Args) > 1 {
		os.Args = os.Args[1:]
		name = filepath.Base(os.Args[0])
	}
	run, known := components[name]
	if !known {
		fmt.Fprintf(os.Stderr, "kubernetes: no component %q\n", name)
		os.Exit(2)
	}
	run()
}

func server(command *cobra.Command) {
	os.Exit(cli.Run(command))
}
