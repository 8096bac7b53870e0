#!/usr/bin/env bash
# Compresses SmolLM2-135M to 2:4 with SparseGPT, the whole way through the service, and shows the report.
# Leaves demo-output/artifact, demo-output/report.json and demo-output/service.log.
#
#   scripts/demo.sh            a small calibration set: minutes
#   scripts/demo.sh --full     the benchmark's calibration and evaluation sets: much longer
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

sizes=(--nsamples 16 --seqlen 256 --windows 4 --eval-seqlen 512)
case "${1:-}" in
    "") ;;
    --full) sizes=(--nsamples 128 --seqlen 2048 --windows 20 --eval-seqlen 2048) ;;
    *) echo "usage: scripts/demo.sh [--full]" >&2 && exit 2 ;;
esac

output=demo-output
data=$output/data
log=$output/service.log
start_timeout_s=90
stop_timeout_s=40
service=""
# Only what is set here counts: a SCALPEL_URL of the caller's, say, would send the job elsewhere.
unset "${!SCALPEL_@}"
export SCALPEL_DATA_DIR=$data SCALPEL_CACHE_DIR=$output/cache

step() {
    printf '\n[%s/6] %s\n' "$1" "$2"
}

fail() {
    printf '\ndemo failed: %s\n' "$1" >&2
    local file
    for file in "$log" "$data/logs/worker.log"; do
        if [ -s "$file" ]; then
            printf '\nthe end of %s:\n' "$file" >&2
            tail -n 20 "$file" >&2
        fi
    done
    exit 1
}

scalpel() {
    .venv/bin/python -m cli "$@"
}

start_service() {
    set -m # a process group of its own: Ctrl-C reaches this script first, which then stops it in order
    .venv/bin/python -m cli serve --port 0 >"$log" 2>&1 &
    service=$!
    set +m
}

noted_pid() {
    sed -n 's/.*"pid": \([0-9]*\).*/\1/p' "$data/server.json" 2>/dev/null || true
}

clear_away() { # a job that an earlier run left behind would be taken up again before ours; the downloads stay
    local other
    other=$(noted_pid)
    if [ -n "$other" ] && kill -0 "$other" 2>/dev/null; then
        echo "demo failed: another one is running here (process $other)" >&2
        exit 1
    fi
    rm -rf "$data" "$output/artifact" "$output/report.json"
    mkdir -p "$data"
}

is_ready() { # the note that our own process leaves, not one of an earlier run that was killed
    [ "$(noted_pid)" = "$service" ]
}

wait_until_ready() {
    local deadline=$((SECONDS + start_timeout_s))
    until is_ready; do
        kill -0 "$service" 2>/dev/null || fail "the service did not start"
        [ "$SECONDS" -lt "$deadline" ] || fail "the service was not ready within $start_timeout_s s"
        sleep 0.5
    done
}

stop_service() {
    [ -n "$service" ] || return 0
    local deadline=$((SECONDS + stop_timeout_s))
    kill -TERM "$service" 2>/dev/null || true
    while kill -0 "$service" 2>/dev/null && [ "$SECONDS" -lt "$deadline" ]; do sleep 0.2; done
    kill -KILL -- "-$service" 2>/dev/null || true # whatever is left of its process group
    service=""
}

trap stop_service EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

step 1 "set up: .venv with everything that is needed"
scripts/setup.sh demo

step 2 "start the service (database, queue, interface and a worker), all under $data"
clear_away
start_service
wait_until_ready
echo "it logs to $log"

step 3 "submit: SmolLM2-135M, 2:4 sparse, SparseGPT, ${sizes[*]}"
job=$(scalpel submit demo:smollm2-135m --sparsity 0.5 --pattern 2:4 --method sparsegpt "${sizes[@]}") || fail "the job was refused"
echo "job $job"

step 4 "watch it"
scalpel watch "$job" || fail "the job did not succeed"

step 5 "download the artifact and its report"
scalpel download "$job" --output "$output/artifact" || fail "the download failed"
cp "$output/artifact/report.json" "$output/report.json"
scalpel report "$output/artifact" || fail "the report cannot be shown"

step 6 "load the artifact with transformers in a fresh process, and let it speak"
.venv/bin/python - "$output/artifact" <<'PY' || fail "the artifact does not load"
import sys

from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

logging.disable_progress_bar()
folder, prompt = sys.argv[1], "The most important thing about the sea is that"
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
tokens = model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=24, do_sample=False)
print(tokenizer.decode(tokens[0]).replace("\n", " "))
PY

printf '\ndone in %s s: %s/artifact, %s/report.json, %s\n' "$SECONDS" "$output" "$output" "$log"
