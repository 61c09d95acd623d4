#!/usr/bin/env bash
# Runs every fuzz target for a while (default 60 s each). Exit 1 at the first crash, which cargo-fuzz prints
# with the input that caused it; such an input becomes a named row of a test table.
set -euo pipefail
seconds="${1:-60}"
cd "$(dirname "$0")"
if ! rustup toolchain list 2>/dev/null | grep -q nightly; then
  echo "fuzz-smoke: fuzzing needs a nightly compiler: rustup toolchain install nightly --profile minimal" >&2
  exit 1
fi
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
  echo "fuzz-smoke: installing cargo-fuzz" >&2
  CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/cargo-fuzz" cargo +nightly install --quiet --locked cargo-fuzz
fi
failed=0
for target in $(cargo +nightly fuzz list --fuzz-dir .); do
  echo "== $target, $seconds s"
  mkdir -p "corpus/$target"
  seeds=()
  [ -d "seeds/$target" ] && seeds=("seeds/$target")
  cargo +nightly fuzz run --fuzz-dir . --sanitizer none "$target" "corpus/$target" "${seeds[@]}" -- \
    -max_total_time="$seconds" -rss_limit_mb=1024 -timeout=10 -print_final_stats=0 || failed=1
done
exit "$failed"
