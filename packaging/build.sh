#!/bin/bash
# Builds packages from the tree.
#
#   packaging/build.sh deb|rpm [--profile dist|release|dev] [--out DIR]
#
# Needs Rust 1.88 or later (of rustup: no distribution's is new enough for all), a C compiler, and for `deb` debhelper and
# dpkg-dev, for `rpm` rpm-build (on Debian: rpm). The packages end in DIR (default: target/packages).
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD

kind=${1:-}
case $kind in deb | rpm) shift ;; *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 2 ;; esac
profile=dist out=
while (($#)); do
	case $1 in
	--profile) profile=${2:?--profile needs a name}; shift 2 ;;
	--out) out=${2:?--out needs a directory}; shift 2 ;;
	*) echo "$0: what is \`$1\`?" >&2; exit 2 ;;
	esac
done
target=${CARGO_TARGET_DIR:-$here/target}
out=${out:-$target/packages}
mkdir -p "$out"
out=$(cd "$out" && pwd)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
source=$work/coordinatool-$version
mkdir "$source"
# What is committed or about to be, not what lies about.
git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- -cf - | tar -xf - -C "$source"

export CARGO_TARGET_DIR=$target COORDINATOOL_PROFILE=$profile
case $kind in
deb)
	cp -r packaging/debian "$source/debian"
	sed -i "s/@VERSION@/$version/; s/@DATE@/$(date -R -d "@$(git log -1 --format=%ct)")/" "$source/debian/changelog"
	# -d: cargo comes from rustup, not from a package.
	(cd "$source" && dpkg-buildpackage -b -us -uc -d) >"$out/deb.log" 2>&1 || { tail -n 40 "$out/deb.log" >&2; exit 1; }
	cp "$work"/*.deb "$out"
	ls "$out"/*.deb
	;;
rpm)
	mkdir -p "$work"/rpm/{BUILD,RPMS,SOURCES,SPECS,SRPMS}
	tar -C "$work" -czf "$work/rpm/SOURCES/coordinatool-$version.tar.gz" "coordinatool-$version"
	rpmbuild -bb --nodeps --define "_topdir $work/rpm" --define "coordinatool_version $version" \
		packaging/rpm/coordinatool.spec >"$out/rpm.log" 2>&1 || { tail -n 40 "$out/rpm.log" >&2; exit 1; }
	cp "$work"/rpm/RPMS/*/*.rpm "$out"
	ls "$out"/*.rpm
	;;
esac
