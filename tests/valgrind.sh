#!/bin/bash
# The mover library under valgrind's memcheck, in copytools that are driven by a test and in those that do everything at
# once. Some minutes on an idle machine; not part of the tests that run for each change. Needs the package valgrind.
# Arguments are given to the stress test's `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v valgrind >/dev/null || {
	echo "Missing: valgrind (as root: apt-get install valgrind)." >&2
	exit 1
}
cargo build --workspace --quiet
export COORDINATOOL_TEST_PATIENCE=${COORDINATOOL_TEST_PATIENCE:-300}
memcheck="valgrind -q --error-exitcode=99 --max-threads=1500"
# Left out: tests whose leases of a second or two, or whose patience with what is never begun (a minute), lapse while valgrind
# translates, and the one that leaves no memory to it.
PUPPET_WRAPPER=$memcheck cargo test --quiet -p coordinatool-preload --test real_processes --test descriptors \
	--test hostile -- --test-threads 4 --skip a_lapsed_lease_stops --skip progress_renews_the_lease \
	--skip a_lack_of_memory --skip many_children_end --skip a_thousand_threads
PUPPET_WRAPPER="$memcheck --suppressions=$PWD/tests/valgrind.supp" cargo test --quiet -p coordinatool-preload --test secure
COORDINATOOL_STRESS_WRAPPER=$memcheck cargo test --quiet -p coordinatool-preload --test stress "$@" -- --nocapture
