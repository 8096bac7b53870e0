#!/usr/bin/env bash
# Makes .venv and installs what `scripts/demo.sh` (extra `demo`) or `scripts/test.sh` (extra `dev`) needs.
# Quick when nothing has changed: a stamp in .venv says for which pins, which folder and which extra it was made.
#
#   scripts/setup.sh demo|dev          PYTHON=/path/to/python chooses the interpreter
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extra=${1:?usage: scripts/setup.sh demo|dev}
venv=.venv
stamp=$venv/scalpel-setup
log=$venv/setup.log

fail() {
    printf 'set-up failed: ' >&2
    printf '%s\n' "$@" >&2
    exit 1
}

fits() { # 3.14's standard library takes the name `compression`
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null
}

find_python() {
    local candidate candidates=(python3 python3.13 python3.12 python3.11)
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        if fits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11, 3.12 or 3.13 is needed; found: $("${PYTHON:-python3}" --version 2>&1 || true)" \
        "get one with your package manager (Debian 12, Ubuntu 24.04: apt-get install python3 python3-venv)" \
        "or from https://www.python.org/downloads/, and name it with PYTHON=/path/to/python3.12 if it is not on the PATH"
}

make_venv() {
    local python=$1
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        fail "$python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv"
    fi
    echo "making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
}

pip_install() {
    if ! "$venv/bin/python" -m pip install --disable-pip-version-check --no-input -c constraints.txt "$@" >>"$log" 2>&1; then
        tail -n 20 "$log" >&2
        fail "pip install $*; the whole output is in $log"
    fi
}

wanted() { # what the stamp holds when all is as it should be
    "$venv/bin/python" - "$PWD" <<'PY'
import hashlib, pathlib, sys
parts = [sys.argv[1].encode(), *(pathlib.Path(name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))]
print(hashlib.sha256(b"\0".join(parts)).hexdigest())
PY
}

if ! [ -x "$venv/bin/python" ]; then
    python=$(find_python)
    make_venv "$python"
fi
fits "$venv/bin/python" || fail "$venv holds $("$venv/bin/python" --version 2>&1), which does not fit; delete $venv and try again"

now=$(wanted)
if [ -f "$stamp" ] && { [ "$(cat "$stamp")" = "$now $extra" ] || [ "$(cat "$stamp")" = "$now dev" ]; }; then
    echo "set-up: everything is there"
    exit 0
fi
rm -f "$stamp"
: >"$log"
echo "installing torch (the largest part; a CPU build suffices)"
pip_install "$(grep '^torch==' constraints.txt)"
echo "installing Scalpel with the extra '$extra'"
pip_install -e ".[$extra]"
echo "$now $extra" >"$stamp"
echo "set-up: done"
