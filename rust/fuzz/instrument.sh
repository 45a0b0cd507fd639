#!/bin/sh
# Cargo's RUSTC_WRAPPER: only the crates that read a checkpoint are watched for coverage. The kernels and their
# dependencies would take minutes more to build, run slower, and show the fuzzer nothing about the parsers.
rustc=$1
shift
name=
previous=
for argument in "$@"; do
    [ "$previous" = --crate-name ] && name=$argument
    previous=$argument
done
case "$name" in
chandelier | tokenizers | serde_json | safetensors | zip | spm_precompiled)
    exec "$rustc" "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1
    ;;
*) exec "$rustc" "$@" ;;
esac
