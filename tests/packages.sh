#!/bin/bash
# Builds the packages from the tree, unpacks them, and runs what they hold. Installs nothing.
#
#   tests/packages.sh [deb|rpm]...     default: both
#
# As root on Debian it installs first what it needs.
set -euo pipefail
cd "$(dirname "$0")/.."

kinds=("$@")
((${#kinds[@]})) || kinds=(deb rpm)
need=()
for kind in "${kinds[@]}"; do
	case $kind in
	deb) command -v dh >/dev/null || need+=(debhelper dpkg-dev) ;;
	rpm) command -v rpmbuild >/dev/null || need+=(rpm) ; command -v cpio >/dev/null || need+=(cpio) ;;
	*) echo "$0: what is \`$kind\`?" >&2; exit 2 ;;
	esac
done
if ((${#need[@]})); then
	if ((EUID == 0)) && command -v apt-get >/dev/null; then
		apt-get update -q >/dev/null
		DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${need[@]}" >/dev/null
	else
		echo "$0: needs ${need[*]}" >&2
		exit 1
	fi
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "$kind: $*" >&2; exit 1; }

for kind in "${kinds[@]}"; do
	packaging/build.sh "$kind" --profile dev --out "$work/$kind" >/dev/null
	root=$work/$kind/root
	mkdir "$root"
	for package in "$work/$kind"/*."$kind"; do
		if [[ $kind == deb ]]; then
			dpkg-deb -x "$package" "$root"
		else
			(cd "$root" && rpm2cpio "$package" | cpio -idm --quiet)
		fi
	done
	[[ $(find "$work/$kind" -maxdepth 1 -name "*.$kind" | wc -l) == 5 ]] || fail "there should be five packages"

	for program in coordinatool coordinatool-client coordinatool-agent halo; do
		"$root/usr/bin/$program" --version >/dev/null || fail "$program does not run"
	done
	[[ $("$root/usr/bin/lhsmd_coordinatool" --version) == "$("$root/usr/bin/coordinatool" --version)" ]] ||
		fail "lhsmd_coordinatool is not the daemon"
	COORDINATOOL_CONF=$root/etc/coordinatool.conf "$root/usr/bin/coordinatool" --lustre none --fsname testfs0 --check-config \
		>/dev/null || fail "the sample configuration is refused"
	library=$(find "$root/usr" -name libcoordinatool_client.so)
	[[ -n $library ]] && LD_PRELOAD=$library /bin/true || fail "the movers' library cannot be loaded"

	# What units start is there, and every page of the tree is installed.
	while read -r program; do
		[[ -x $root$program ]] || fail "a unit starts $program, which is in no package"
	done < <(sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' "$root"/usr/lib/systemd/system/*.service)
	for page in docs/man/*; do
		ls "$root/usr/share/man/man${page##*.}/${page##*/}"* >/dev/null || fail "${page##*/} is not installed"
	done
	for unit in systemd/*.service; do
		[[ -f $root/usr/lib/systemd/system/${unit##*/} ]] || fail "${unit##*/} is not installed"
	done
	bash -n "$root/usr/share/bash-completion/completions/coordinatool-client" || fail "the completions are no script"
	if [[ $kind == rpm ]]; then
		# The C version counts from 0.4: without the epoch ours would be older.
		[[ $(rpm -qp --qf '%{EPOCH}' "$work"/rpm/coordinatool-lib-*.rpm) == 1 ]] || fail "the epoch is missing"
	fi
	echo "$kind: five packages built, unpacked and tried"
done
