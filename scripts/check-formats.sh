#!/usr/bin/env bash
# Proves the output formats end to end: compresses a small model into each, opens the files in a fresh process with software
# that nobody here wrote, and compares its logits with what this project reads from the same files. Each loader has its own
# environment, .venv-formats/NAME, with what scripts/formats/NAME.txt pins. The first run compiles llama.cpp, which takes minutes.
#
#   scripts/check-formats.sh                    every format
#   scripts/check-formats.sh gptq gguf          only these
#   MODEL=demo:smollm2-135m scripts/check-formats.sh
#                                               a real model in place of a tiny random one: much longer
#
# Exit status: 0 every format was verified; 1 one failed; 3 none failed, but a loader could not be installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# format | options of `scalpel compress` | environment | loader program | KL allowed, in nats
# The kernels of gptqmodel de-quantise to float16; llama.cpp quantises activations to 8 bits.
# dense stands beside sparse-packed, whose only loader is ours: the same solution, written dense, must give the same logits.
cases=(
    "dense|--method sparsegpt --sparsity 0.5 --pattern 2:4|transformers|with_transformers.py|1e-6"
    "compressed-tensors|--bits 4 --group-size 32|transformers|with_compressed_tensors.py|1e-6"
    "compressed-tensors|--bits 8 --group-size row --asymmetric|transformers|with_compressed_tensors.py|1e-6"
    "gptq|--bits 4 --group-size 32|gptq|with_gptqmodel.py|1e-4"
    "gptq|--bits 3 --group-size 32 --asymmetric --act-order|gptq|with_gptqmodel.py|1e-4"
    "gguf|--bits 4 --group-size 32|transformers|with_gguf.py|1e-6"
    "gguf|--bits 4 --group-size 32|llama-cpp|with_llama_cpp.py|5e-3"
    "gguf|--bits 8 --group-size 32|transformers|with_gguf.py|1e-6"
    "gguf|--bits 8 --group-size 32|llama-cpp|with_llama_cpp.py|5e-3"
    "spqr|--method spqr --bits 3|spqr|with_spqr_quant.py|1e-4"
    "sparse-packed|--method sparsegpt --sparsity 0.5 --pattern 2:4|transformers|with_transformers.py|1e-6"
)

envs=.venv-formats
work=$envs/run
pins=scripts/formats
programs=compression/formats/loaders # the very ones that a job's load certificate runs
model=${MODEL:-}
failed=0
unverified=0
broken="" # environments that could not be made
export OMP_WAIT_POLICY=PASSIVE
# A minimal llama.cpp: any processor, no server, no downloads.
off() { printf -- '-D%s=OFF ' "$@"; }
CMAKE_ARGS=$(off GGML_NATIVE GGML_OPENMP LLAMA_CURL LLAVA_BUILD LLAMA_BUILD_{TESTS,EXAMPLES,SERVER,TOOLS})
export CMAKE_ARGS CMAKE_BUILD_PARALLEL_LEVEL="${CMAKE_BUILD_PARALLEL_LEVEL:-2}"

wanted() { # format: is it among those named, or none named
    local format=$1 name
    shift
    [ $# -gt 0 ] || return 0
    for name in "$@"; do [ "$name" != "$format" ] || return 0; done
    return 1
}

refuse_unknown() {
    local name one
    for name in "$@"; do
        for one in "${cases[@]}"; do [ "${one%%|*}" != "$name" ] || continue 2; done
        echo "check-formats: there is no format $name; known: $(printf '%s\n' "${cases[@]%%|*}" | sort -u | xargs)" >&2
        exit 2
    done
}

packages() { # environment: where its packages are
    "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

# Layered over .venv, whose torch and transformers it uses. Nothing but the pins is installed, without what they depend on:
# gptqmodel, for one, would replace torch by gigabytes of another build.
make_environment() { # name; quick when its pins have not changed
    local env=$envs/$1 pinned=$pins/$1.txt stamp=$envs/$1/scalpel-pins log=$envs/$1.log
    local now
    now="$PWD $(cat constraints.txt "$pinned" | sha256sum)"
    [ "$(cat "$stamp" 2>/dev/null)" != "$now" ] || return 0
    case " $broken " in *" $1 "*) return 1 ;; esac # tried in this run
    broken="$broken $1"
    echo "making the environment $env" >&2
    .venv/bin/python -m venv --clear "$env" >"$log" 2>&1 || return 1
    packages .venv >"$(packages "$env")/scalpel.pth" || return 1
    "$env/bin/python" -m pip install --disable-pip-version-check --no-input --no-deps -r "$pinned" >>"$log" 2>&1 || return 1
    echo "$now" >"$stamp"
}

make_model() {
    [ -z "$model" ] || return 0
    model=$work/tiny-llama
    .venv/bin/python "$pins/tiny_llama.py" "$model" README.md docs/*.md 2>"$work/tiny-llama.log" || {
        tail -n 20 "$work/tiny-llama.log" >&2
        exit 1
    }
    text=$work/text.txt
    cat README.md docs/*.md >"$text"
    sizes=(--calibration "./$text" --nsamples 16 --seqlen 64 --eval "./$text" --windows 1 --eval-seqlen 64)
    model=./$model
}
sizes=(--nsamples 16 --seqlen 256 --windows 1 --eval-seqlen 256)

artifact_of() { # format, options: its folder's name
    printf '%s/%s' "$work" "$(printf '%s %s' "$1" "$2" | tr -cs 'a-z0-9.\n' -)"
}

write_artifact() { # format, options; once for all cases that load it
    local folder
    folder=$(artifact_of "$1" "$2")
    [ ! -e "$folder/expected" ] || return 0
    # shellcheck disable=SC2086  # the options are words
    .venv/bin/python -m cli compress "$model" -o "$folder/artifact" --format "$1" $2 "${sizes[@]}" \
        --data-dir "$work/data" >"$folder.log" 2>&1 || return 1
    PYTHONPATH=. .venv/bin/python "$pins/expected.py" "$folder/artifact" "$folder/expected" >>"$folder.log" 2>&1
}

end_of() { # a log's last words, as a reason
    grep -v '^[[:space:]]*$' "$1" | tail -n 1 | cut -c 1-200
}

say() { # verdict, format, options, words
    printf '%-13s %-19s %-52s %s\n' "$@"
}

fail() {
    say FAILED "$@"
    failed=1
}

check() { # one case
    local format options environment program allowed folder opens
    IFS='|' read -r format options environment program allowed <<<"$1"
    folder=$(artifact_of "$format" "$options")
    mkdir -p "$folder"
    if ! make_environment "$environment"; then
        say "not verified" "$format" "$options" "$program: no environment $environment: $(end_of "$envs/$environment.log")"
        unverified=1
        return
    fi
    if ! write_artifact "$format" "$options"; then
        fail "$format" "$options" "it was not written: $(end_of "$folder.log")"
        return
    fi
    opens=$folder/artifact
    if [ "$format" = sparse-packed ]; then
        opens=$(artifact_of dense "$options")
        mkdir -p "$opens"
        write_artifact dense "$options" || { fail "$format" "$options" "its dense twin: $(end_of "$opens.log")" && return; }
        opens=$opens/artifact
    fi
    if ! PATH="$PWD/$envs/$environment/bin:$PATH" "$envs/$environment/bin/python" "$programs/$program" "$opens" \
        "$folder/expected" cpu >"$folder.answer" 2>"$folder.log"; then
        fail "$format" "$options" "$program: $(end_of "$folder.log")"
        return
    fi
    judge "$format" "$options" "$folder.answer" "$allowed"
}

judge() { # format, options, file with the answer, KL allowed
    local words
    if words=$(.venv/bin/python "$pins/judge.py" "$3" "$4"); then
        say ok "$1" "$2" "$words"
    else
        fail "$1" "$2" "${words:-no answer}"
    fi
}

refuse_unknown "$@"
scripts/setup.sh demo
rm -rf "$work"
mkdir -p "$work"
make_model
for one in "${cases[@]}"; do
    if wanted "${one%%|*}" "$@"; then check "$one"; fi
done
[ "$failed" = 0 ] || { echo "a format failed; logs and files are in $work" && exit 1; }
[ "$unverified" = 0 ] || { echo "not everything could be verified; logs are in $envs" && exit 3; }
echo "every format loads and gives the expected logits"
