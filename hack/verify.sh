#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What must hold before a change is merged, apart from the tests. Reports every failing check, not
# only the first one.
set -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
failed=()

check() { # NAME COMMAND...
  local name=$1 start=$SECONDS
  shift
  if "$@"; then
    echo "verify: $name: ok ($((SECONDS - start)) s)"
  else
    echo "verify: $name: FAILED"
    failed+=("$name")
  fi
}

go_files() { git ls-files --cached --others --exclude-standard '*.go' | while read -r f; do [[ -f $f ]] && echo "$f"; done; }

formatting() {
  local bad
  bad=$(go_files | xargs gofmt -l)
  [[ -z $bad ]] || { echo "not gofmt'ed:"; echo "$bad"; return 1; }
}

headers() {
  local bad
  # Generated files may have a build constraint before it.
  bad=$(go_files | xargs awk 'FNR == 1 {found = 0} FNR <= 3 && $0 == "// SPDX-License-Identifier: Apache-2.0" {found = 1} FNR == 3 && !found {print FILENAME}')
  [[ -z $bad ]] || { echo "no SPDX header at the top:"; echo "$bad"; return 1; }
}

generated_sums() {
  find controlplane infrastructure -name 'zz_generated*.go' -print0 | sort -z | xargs -0r sha256sum
  find config -path '*/crd/bases/*' -o -path '*/rbac/role.yaml' -o -path '*/webhook/manifests.yaml' | sort | xargs -r sha256sum
}

generated() {
  local before after
  before=$(generated_sums)
  make --no-print-directory generate >/dev/null || return 1
  after=$(generated_sums)
  [[ $before == "$after" ]] || {
    echo "generated files were out of date; they have been rewritten, commit them:"
    diff <(echo "$before") <(echo "$after") | awk '/^[<>]/ {print "  " $3}' | sort -u
    return 1
  }
}

lint() {
  local binary
  binary=$(hack/golangci-lint.sh path)
  [[ -x $binary ]] || { echo "golangci-lint is not built (make lint builds it): skipped"; return 0; }
  "$binary" run ./...
}

check "generated files" generated
check "formatting" formatting
check "licence headers" headers
check "vet" go vet -tags=e2e ./...
check "lint" lint

((${#failed[@]} == 0)) || { echo "verify: failed: ${failed[*]}"; exit 1; }
