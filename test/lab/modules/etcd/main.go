// SPDX-License-Identifier: Apache-2.0

// Command etcd pins the etcd server of the lab: the same main as upstream.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
