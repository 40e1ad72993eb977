#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: hack/generate-manifests.sh TREE NAME CRD_OPTIONS
# Writes the CRDs, the manager's ClusterRole NAME-manager and, where there are webhook markers, the
# webhook configurations of ./TREE/... below config/TREE. Nothing is touched when generation fails.
set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tree=$1 name=$2 crd=$3
out=config/$tree
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

go tool -modfile=hack/tools/go.mod controller-gen \
  "$crd" "rbac:roleName=$name-manager,headerFile=hack/boilerplate.yaml.txt" "webhook:headerFile=hack/boilerplate.yaml.txt" \
  paths="./$tree/..." \
  "output:crd:dir=$tmp/crd" "output:rbac:dir=$tmp/rbac" "output:webhook:dir=$tmp/webhook"

# A CRD whose type is gone goes too.
mkdir -p "$out/crd/bases"
rm -f "$out"/crd/bases/*.yaml
cp "$tmp"/crd/*.yaml "$out/crd/bases/"
{
  cat hack/boilerplate.yaml.txt
  echo "resources:"
  (cd "$out/crd/bases" && ls -- *.yaml) | sed 's/^/- /'
} >"$tmp/kustomization.yaml"
mv "$tmp/kustomization.yaml" "$out/crd/bases/"
cp "$tmp/rbac/role.yaml" "$out/rbac/"
if [[ -f $tmp/webhook/manifests.yaml ]]; then
  cp "$tmp/webhook/manifests.yaml" "$out/webhook/"
else
  rm -f "$out/webhook/manifests.yaml"
fi
