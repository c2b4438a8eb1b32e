#!/bin/bash
# Runs every test. Installs what they need where that is possible, and names what is missing where it is not.
# Arguments are given to `cargo test`: `tests/run.sh --test hsm_rows`.
set -euo pipefail
cd "$(dirname "$0")/.."

# Command, and the Debian package that has it.
needs=(cc:gcc mount:mount script:bsdutils ip:iproute2 nft:nftables fence_ipmilan:fence-agents ipmi_sim:openipmi ipmitool:ipmitool powermand:powerman redis-server:redis-server)

missing=()
# Not a command.
[[ -e /usr/lib/ocf/resource.d/heartbeat/Dummy ]] || missing+=(resource-agents)
for need in "${needs[@]}"; do
	command -v "${need%%:*}" >/dev/null || missing+=("${need##*:}")
done
if ((${#missing[@]})); then
	if ((EUID == 0)) && command -v apt-get >/dev/null; then
		echo "Installing ${missing[*]} ..."
		apt-get -qq update
		DEBIAN_FRONTEND=noninteractive apt-get -qq -y install "${missing[@]}" >/dev/null
	else
		echo "Missing: ${missing[*]}. Install these packages (as root: apt-get install ${missing[*]}) and try again." >&2
		exit 1
	fi
fi
if ! command -v cargo >/dev/null; then
	echo "Missing: cargo. Install a Rust toolchain (1.88 or later) and try again." >&2
	exit 1
fi

# The integration tests start these as separate processes, so they must be built first.
cargo build --workspace --quiet

# Tests that cannot run here append a line to this file; each must be listed, with its reason, in tests/skipped.txt.
export COORDINATOOL_SKIP_LOG="$PWD/target/skipped.log"
mkdir -p target
: >"$COORDINATOOL_SKIP_LOG"

cargo test --workspace "$@"

# Ignored tests count as skipped.
cargo test --workspace --quiet -- --list --ignored 2>/dev/null | sed -n 's/: test$/\tignored/p' >>"$COORDINATOOL_SKIP_LOG"

unlisted=0
while IFS=$'\t' read -r name reason; do
	if ! grep -q "^$name[[:space:]]" tests/skipped.txt; then
		echo "Skipped but not listed in tests/skipped.txt: $name ($reason)" >&2
		unlisted=1
	else
		echo "Skipped: $name ($reason)"
	fi
done <"$COORDINATOOL_SKIP_LOG"
exit "$unlisted"
