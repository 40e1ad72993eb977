#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: hack/render.sh FOLDER
# Prints a kustomize build with every ${VARIABLE:=default} replaced by its default, for tools that
# apply our components without clusterctl.
set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
go tool -modfile=hack/tools/go.mod kustomize build "$1" | sed -E 's/\$\{[A-Z0-9_]+:=([^}]*)\}/\1/g'
