#!/bin/bash
# High availability on this machine, without Lustre: four agents that each play a server, and a manager. A server dies,
# another hangs, one comes back, the manager is killed; status and events are shown as it happens. --shell opens a shell in
# which commands can be tried on the cluster afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v cargo >/dev/null; then
	echo "Missing: a Rust toolchain (cargo) is needed." >&2
	exit 1
fi
echo "Building ..."
cargo build --workspace --quiet
exec cargo run --quiet -p harness --bin ha-demo -- "$@"
