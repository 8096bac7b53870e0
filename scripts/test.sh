#!/usr/bin/env bash
# Sets everything up, then runs all checks and all tests. Extra arguments go to pytest:
#
#   scripts/test.sh                     everything, as a merge does
#   scripts/test.sh -m "not slow" -x    everything but what takes long, up to the first failure
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

python=.venv/bin/python
export OMP_WAIT_POLICY=PASSIVE # threads that spin at barriers make a busy machine many times slower
cores=$(getconf _NPROCESSORS_ONLN)
processes=$((cores < 4 ? cores : 4)) # many tests wait rather than compute
[ "$processes" = 1 ] || export OMP_NUM_THREADS=1
failed=""

check() {
    local name=$1
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    "$@" || failed="$failed $name"
}

echo "== set-up"
scripts/setup.sh dev || exit 1
scripts/browser.sh

check lint "$python" -m ruff check .
check format "$python" -m ruff format --check .
check types "$python" -m mypy
check tests "$python" -m pytest -n "$processes" --dist loadfile --no-loadscope-reorder "$@"

echo
if [ -n "$failed" ]; then
    echo "FAILED:$failed"
    exit 1
fi
echo "all checks and tests passed"
