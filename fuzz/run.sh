#!/bin/bash
# Runs the fuzz targets under libFuzzer: `fuzz/run.sh [SECONDS [TARGET...]]`, 60 seconds and all of them unless told.
#
# Starts from the examples in the tree and writes what is new to fuzz/target, never to the tree. What fails is in
# fuzz/artifacts and, when it is mended, belongs into fuzz/corpus. A stable toolchain does: libFuzzer needs the coverage that
# LLVM puts in, not the sanitizers that only a nightly one has.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
export RUSTC_BOOTSTRAP=1
if ! cargo fuzz --version >/dev/null 2>&1 || ! command -v c++ >/dev/null; then
	echo "Missing: cargo-fuzz or a C++ compiler. Install them (cargo install --locked cargo-fuzz; g++) and try again." >&2
	exit 1
fi
cargo fuzz build --sanitizer none
mapfile -t targets < <(if (($#)); then printf '%s\n' "$@"; else cargo fuzz list; fi)
failed=()
for target in "${targets[@]}"; do
	printf '\n-- %s\n' "$target"
	found=${CARGO_TARGET_DIR:-fuzz/target}/corpus/$target
	mkdir -p "$found"
	# Big inputs are slow and find no more.
	if ! cargo fuzz run --sanitizer none "$target" "$found" "fuzz/corpus/$target" -- \
		-max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 2>&1 |
		grep -aE 'panicked|ERROR|Test unit written|stat::(number_of|new_units|slowest|peak)' -A2; then
		failed+=("$target")
	fi
done
if ((${#failed[@]})); then
	echo "Failed: ${failed[*]} (see fuzz/artifacts)" >&2
	exit 1
fi
