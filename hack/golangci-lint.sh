#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: hack/golangci-lint.sh path|build
# Prints the path of the pinned golangci-lint in the cache; `build` builds it first if it is missing.
# It has a module of its own because its many dependencies must not decide the versions of ours.
set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/tools/lint"
sum=$(cat go.mod go.sum | sha256sum | cut -c1-12)
binary=${XDG_CACHE_HOME:-$HOME/.cache}/cluster-api-provider-kamaji/tools/golangci-lint-$sum

case ${1:-} in
path) ;;
build)
  if [[ ! -x $binary ]]; then
    echo "building golangci-lint (once, some minutes)" >&2
    mkdir -p "$(dirname "$binary")"
    CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$binary.tmp" github.com/golangci/golangci-lint/v2/cmd/golangci-lint
    mv "$binary.tmp" "$binary"
  fi
  ;;
*)
  echo "usage: $0 path|build" >&2
  exit 2
  ;;
esac
echo "$binary"
