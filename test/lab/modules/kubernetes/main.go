// SPDX-License-Identifier: Apache-2.0

// Command kubernetes is every Kubernetes component of the lab in one binary:
// the name it is called by, or its first argument, selects the component. One
// file means one image layer, and pages shared by all processes of a node.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	_ "time/tzdata" // CronJob time zones, as in the upstream mains

	"github.com/spf13/cobra"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubectl's credential plugins
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app"
	kubeadmutil "k8s.io/kubernetes/cmd/kubeadm/app/util/errors"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// components maps a program name to its main function, which doesn't return
// unless it succeeded.
var components = map[string]func(){
	"kube-apiserver":          func() { server(apiserver.NewAPIServerCommand()) },
	"kube-controller-manager": func() { server(controllermanager.NewControllerManagerCommand()) },
	"kube-scheduler":          func() { server(scheduler.NewSchedulerCommand()) },
	"kube-proxy":              func() { server(proxy.NewProxyCommand()) },
	"kubelet":                 func() { server(kubelet.NewKubeletCommand(context.Background())) },
	"kubeadm":                 func() { kubeadmutil.HandleError(kubeadm.Run()) },
	"kubectl":                 kubectl,
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

func kubectl() {
	// Verbosity is wanted before the command line is parsed, to log plugin handling.
	_, _ = logs.GlogSetter(cmd.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
}
