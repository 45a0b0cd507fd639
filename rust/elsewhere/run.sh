#!/usr/bin/env bash
# Runs the kernels' tests on the instructions of other processors: WebAssembly's in node, ARM's in qemu.
# Debian: apt-get install nodejs qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross
set -euo pipefail
cd "$(dirname "$0")"
for tool in node qemu-aarch64 aarch64-linux-gnu-gcc; do
    command -v "$tool" >/dev/null || { echo "$tool not found; see the head of $0" >&2; exit 1; }
done
target=${CARGO_TARGET_DIR:-$PWD/../../target}/elsewhere
rustup target add wasm32-wasip1 aarch64-unknown-linux-gnu

CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu" \
    cargo test --release --locked --target-dir "$target" --target aarch64-unknown-linux-gnu --lib
# WebAssembly has no threads there and catches no panic: without the tests of `team` and `threads`, and a kernel's on several.
for features in +simd128 -simd128; do
    RUSTFLAGS="-C target-feature=$features" \
        CARGO_TARGET_WASM32_WASIP1_RUNNER="node --no-warnings $PWD/wasi.mjs" \
        cargo test --release --locked --target-dir "$target" --target wasm32-wasip1 --lib kernels:: -- --skip on_any_thread
done
