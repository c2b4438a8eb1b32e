#!/bin/bash
# The main job on this machine, without Lustre: an embedded Lustre, the daemon, and two movers that run an unmodified
# copytool. Files are archived, released, restored and removed; requests printed by a real Lustre are queued and
# dispatched. Ends with a summary of each file's content and each request's end.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v cargo >/dev/null || ! command -v cc >/dev/null; then
	echo "Missing: a Rust toolchain (cargo) and a C compiler (cc) are needed." >&2
	exit 1
fi
echo "Building ..."
cargo build --workspace --quiet
exec cargo run --quiet -p harness --bin hsm-demo -- "$@"
