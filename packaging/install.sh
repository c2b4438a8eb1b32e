#!/bin/bash
# Installs what was built: the packages use it, and so can you.
#
#   packaging/install.sh [--from DIR] [--part daemon|client|lib|agent|halo]...
#
# --from DIR   where cargo put the programs (default: target/dist)
# --part NAME  only this part (repeatable; default: all)
#
# Environment, with defaults: DESTDIR (none), PREFIX=/usr, LIBDIR=$PREFIX/lib64 where that exists, else $PREFIX/lib,
# UNITDIR=$PREFIX/lib/systemd/system, SYSCONFDIR=/etc. Configuration files that exist are left as they are.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)

from=$here/target/dist parts=()
while (($#)); do
	case $1 in
	--from) from=${2:?--from needs a directory}; shift 2 ;;
	--part) parts+=("${2:?--part needs a name}"); shift 2 ;;
	-h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
	*) echo "$0: what is \`$1\`? (--help tells)" >&2; exit 2 ;;
	esac
done
from=$(realpath "$from")
# What is given by pattern below is in the tree, from wherever this is run.
cd "$here"
((${#parts[@]})) || parts=(daemon client lib agent halo)

PREFIX=${PREFIX:-/usr}
if [[ -z ${LIBDIR:-} ]]; then
	if [[ -d $PREFIX/lib64 && ! -L $PREFIX/lib64 ]]; then LIBDIR=$PREFIX/lib64; else LIBDIR=$PREFIX/lib; fi
fi
UNITDIR=${UNITDIR:-$PREFIX/lib/systemd/system}
SYSCONFDIR=${SYSCONFDIR:-/etc}
root=${DESTDIR:-}

program() { install -D -m 755 "$from/$1" "$root$PREFIX/bin/$1"; }
page() { install -D -m 644 "$here/docs/man/$1" "$root$PREFIX/share/man/man${1##*.}/$1"; }
unit() { install -D -m 644 "$here/systemd/$1" "$root$UNITDIR/$1"; }
config() { # FROM TO: never over an administrator's own
	[[ -e $root$SYSCONFDIR/$2 ]] || install -D -m 644 "$here/conf/$1" "$root$SYSCONFDIR/$2"
}
doc() { # PACKAGE FILE...
	local name=$1
	shift
	for file in "$@"; do install -D -m 644 "$here/$file" "$root$PREFIX/share/doc/$name/${file##*/}"; done
}
completions() { # PROGRAM ARGUMENT...
	local name=$1 dir=$root$PREFIX/share
	shift
	mkdir -p "$dir/bash-completion/completions" "$dir/zsh/site-functions" "$dir/fish/vendor_completions.d"
	"$from/coordinatool-client" ha completion bash "$@" >"$dir/bash-completion/completions/$name"
	"$from/coordinatool-client" ha completion zsh "$@" >"$dir/zsh/site-functions/_$name"
	"$from/coordinatool-client" ha completion fish "$@" >"$dir/fish/vendor_completions.d/$name.fish"
}

for part in "${parts[@]}"; do
	case $part in
	daemon)
		program coordinatool
		# The C version's name.
		ln -sfn coordinatool "$root$PREFIX/bin/lhsmd_coordinatool"
		unit coordinatool@.service
		unit coordinatool.service
		unit coordinatool-ha.service
		page coordinatool.8
		page coordinatool.conf.5
		page coordinatool-ha.yaml.5
		config coordinatool.conf coordinatool.conf
		config coordinatool.sysconfig sysconfig/coordinatool
		doc coordinatool README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE conf/ha.yaml docs/*.md
		;;
	client)
		program coordinatool-client
		page coordinatool-client.1
		page coordinatool-client-ha.1
		completions coordinatool-client
		doc coordinatool-client LICENSE-MIT LICENSE-APACHE
		;;
	lib)
		install -D -m 755 "$from/libcoordinatool_client.so" "$root$LIBDIR/libcoordinatool_client.so"
		page libcoordinatool_client.7
		doc coordinatool-lib LICENSE-MIT LICENSE-APACHE
		;;
	agent)
		program coordinatool-agent
		unit coordinatool-agent.service
		page coordinatool-agent.8
		doc coordinatool-agent LICENSE-MIT LICENSE-APACHE
		;;
	halo)
		program halo
		page halo.1
		completions halo --halo
		doc coordinatool-halo LICENSE-MIT LICENSE-APACHE
		;;
	*) echo "$0: there is no part \`$part\` (--help tells)" >&2; exit 2 ;;
	esac
done
