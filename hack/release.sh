#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Writes the files that clusterctl reads from a release into dist/, with their checksums.
# VERSION and REGISTRY come from the Makefile; our images get that tag, other images stay as they are.
set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${VERSION:?}" "${REGISTRY:?}" "${KUSTOMIZE:?}"
out=dist

rm -rf "$out"
mkdir -p "$out"

components() { # TREE FILE
  $KUSTOMIZE build "config/$1/default" | sed -E "s|(${REGISTRY}/[a-z-]+):v[^[:space:]\"]+|\1:${VERSION}|" >"$out/$2"
}
components controlplane control-plane-components.yaml
components infrastructure infrastructure-components.yaml

cp metadata.yaml "$out/"
cp templates/cluster-template*.yaml "$out/"
(cd "$out" && sha256sum -- *.yaml >checksums.txt)
ls -l "$out"
