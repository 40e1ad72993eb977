// SPDX-License-Identifier: Apache-2.0

// Command lab runs a management cluster and bare-metal hosts on one machine,
// for the quickstart, the tests and CI. `lab help` lists what it does.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
)

// verb is one thing the lab does.
type verb struct {
	name, help string
	run        func(ctx context.Context, log *progress.Log, args []string) error
}

// verbs in the order of their use.
var verbs = []verb{
	{"assets", "print the folder with kube-apiserver, etcd and kubectl for KUBEBUILDER_ASSETS, building them when missing", assets},
	{"build", "build programs from Go modules into the cache; all, or the named modules", build},
	{"quickstart", "the main job: from nothing to a tenant cluster with a Ready worker; run again to continue", mainJob},
	{"up", "bring up engine, management cluster and two hosts; what runs already is kept", up},
	{"load", "build the project's images, load them into the cluster and restart what runs them", load},
	{"provide", "build images that few tests need, such as kubernetes-1.35, and load them into the cluster and hosts", provide},
	{"status", "print addresses, host keys and paths", status},
	{"down", "remove cluster and hosts; caches and engine stay", down},
	{"purge", "down, stop the engine that the lab started, and delete the caches", purge},
}

func main() {
	// A second signal ends the program at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	if len(os.Args) > 1 {
		for _, verb := range verbs {
			if verb.name == os.Args[1] {
				if err := verb.run(ctx, progress.New(os.Stderr), os.Args[2:]); err != nil {
					fmt.Fprintf(os.Stderr, "lab %s: %v\n", verb.name, err)
					os.Exit(1)
				}
				return
			}
		}
	}
	fmt.Fprintln(os.Stderr, "Usage: go run ./test/lab VERB")
	for _, verb := range verbs {
		fmt.Fprintf(os.Stderr, "  %-10s %s\n", verb.name, verb.help)
	}
	if len(os.Args) < 2 || os.Args[1] != "help" {
		os.Exit(2)
	}
}
