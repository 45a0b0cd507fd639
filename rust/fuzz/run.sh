#!/usr/bin/env bash
# Fuzzes every target for so many seconds: rust/fuzz/run.sh SECONDS [TARGET...]
# With FUZZ_RUNS, for so many inputs instead, the same in every run: what is red in CI is then red at home.
set -euo pipefail
seconds=$1
shift
[ $# -gt 0 ] || set -- config safetensors pickle tokenizer
here=$(cd "$(dirname "$0")" && pwd)
command -v c++ >/dev/null || { echo "c++ not found: libFuzzer is written in it; install g++ or clang" >&2; exit 1; }

if [ -n "${FUZZ_RUNS:-}" ]; then bound=(-runs="$FUZZ_RUNS" -seed=1); else bound=(-max_total_time="$seconds"); fi
out=${CARGO_TARGET_DIR:-$here/../../target}/fuzz
RUSTC_WRAPPER="$here/instrument.sh" cargo build --release --locked --manifest-path "$here/Cargo.toml" --target-dir "$out"

# In memory where that is possible: a checkpoint is written for every input.
copies=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")")
trap 'rm -rf "$copies"' EXIT
for target in "$@"; do
    echo "== $target, $seconds s =="
    mkdir -p "$out/corpus/$target" "$out/found/$target" "$copies/seeds/$target" "$here/regressions/$target"
    TMPDIR=$copies FUZZ_TARGET=$target FUZZ_SEEDS=$copies/seeds/$target RUST_BACKTRACE=1 \
        "$out/release/chandelier-fuzz" "$out/corpus/$target" "$copies/seeds/$target" "$here/regressions/$target" \
        -artifact_prefix="$out/found/$target/" "${bound[@]}" -timeout=20 -rss_limit_mb=2048 \
        -max_len=65536 -len_control=0 -print_final_stats=1 -verbosity=0 || {
        echo "what it found is in $out/found/$target; see CONTRIBUTING.md for what to do with it" >&2
        exit 1
    }
done
