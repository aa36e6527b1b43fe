#!/bin/sh
# Fuzzes the wire with LLVM's fuzzer, on stable Rust: coverage is a pass of the compiler, and the wire is safe code,
# so no sanitizer is needed.
#
#   fuzz/run.sh [SECONDS]     default 60; exits with a failure, and leaves the input, when something is found
#
# The kept corpus, fuzz/corpus/wire, is read and not written: what is found goes to fuzz/target/found. To keep what
# reaches new code:  fuzz/target/HOST/release/wire -merge=1 fuzz/corpus/wire fuzz/target/found
set -eu
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-$PWD/target}
passes='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-trace-compares'
passes="$passes -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
# A target of its own to pass, so that build scripts are built without these flags.
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="$passes" CARGO_TARGET_DIR="$target" cargo build --release --target "$host"
mkdir -p "$target/found"
exec "$target/$host/release/wire" -max_total_time="${1:-60}" -max_len=65536 -rss_limit_mb=512 -timeout=5 \
    -artifact_prefix="$target/" -print_final_stats=1 "$target/found" corpus/wire
