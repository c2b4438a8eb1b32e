#!/bin/bash
# Deliberate mistakes in a copy of the sources: the simulator must find each one.
#
#   tests/mutations.sh              all of tests/mutations/
#   tests/mutations.sh NAME...      these
#   tests/mutations.sh --part K/N   every Nth, from the Kth on (K from 1)
#   tests/mutations.sh --check      only whether the texts that they change are there
#
# A mutation is a text: what is wrong in one line, `sim hsm` if it is not the HA simulator that must find it, `seeds N` (how
# many seeds may be needed), then changes: `file PATH`,
# `<<<<`, the old text, `====`, the new text, `>>>>`. The old text must be there exactly once.
set -euo pipefail
cd "$(dirname "$0")/.."

names=() check=""
if [[ ${1:-} == --check ]]; then
	check=yes
	shift
fi
if [[ ${1:-} == --part ]]; then
	part=${2%/*} parts=${2#*/} number=0
	for path in tests/mutations/*; do
		((number % parts == part - 1)) && names+=("${path##*/}")
		number=$((number + 1))
	done
elif (($#)); then
	names=("$@")
else
	for path in tests/mutations/*; do names+=("${path##*/}"); done
fi

copy=$PWD/target/mutants
export CARGO_TARGET_DIR=$copy/target
build() {
	# A mistake may leave something unused: warnings are shown only when it cannot be built at all.
	(cd "$copy/tree" && cargo build --quiet --profile sim --no-default-features --features sim --bin coordinatool-sim) \
		2>"$copy/log" || { cat "$copy/log" >&2; exit 1; }
}

# Only what has changed is copied, so that little is built anew.
copy_if_changed() {
	if [[ -f $1 ]] && ! cmp -s "$1" "$copy/tree/$1"; then
		mkdir -p "$copy/tree/$(dirname "$1")"
		cp "$1" "$copy/tree/$1"
	fi
}

copy_all() {
	mkdir -p "$copy/tree"
	git ls-files -z | while IFS= read -r -d '' path; do copy_if_changed "$path"; done
	# What has been moved since must not be there twice.
	(cd "$copy/tree" && find . -type f -print0) | while IFS= read -r -d '' path; do
		[[ -f $path ]] || rm "$copy/tree/$path"
	done
}

# Undoes a mutation.
restore() {
	sed -n 's/^file //p' "tests/mutations/$1" | sort -u | while IFS= read -r path; do copy_if_changed "$path"; done
}

apply() {
	perl -e '
		use strict;
		my ($mutation, $tree) = @ARGV;
		open(my $in, "<", $mutation) or die "$mutation: $!\n";
		my ($file, $side, %text);
		while (my $line = <$in>) {
			if ($line =~ /^file (\S+)$/ && !$side) { $file = "$tree/$1"; next }
			if ($line eq "<<<<\n") { $side = "old"; %text = (old => "", new => ""); next }
			if ($line eq "====\n" && $side) { $side = "new"; next }
			if ($line eq ">>>>\n" && $side) {
				$side = undef;
				open(my $source, "<", $file) or die "$file: $!\n";
				my $whole = do { local $/; <$source> };
				chomp(my $old = $text{old});
				chomp(my $new = $text{new});
				my $count = () = $whole =~ /\Q$old\E/g;
				die "$mutation: the old text is $count times in $file\n" if $count != 1;
				$whole =~ s/\Q$old\E/$new/;
				open(my $target, ">", $file) or die "$file: $!\n";
				print $target $whole;
				close($target) or die "$file: $!\n";
				next;
			}
			$text{$side} .= $line if $side;
		}
	' "$1" "$2"
}

# That a text is no longer there is said before any time is spent.
copy_all
for name in "${names[@]}"; do
	apply "tests/mutations/$name" "$copy/tree"
	restore "$name"
done
[[ -z $check ]] || exit 0
build
missed=0
printf '%-32s %-7s %s\n' mutation seed found
for name in "${names[@]}"; do
	mutation=tests/mutations/$name
	seeds=$(sed -n 's/^seeds \([0-9]*\)$/\1/p' "$mutation" | head -n 1)
	simulator=$(sed -n 's/^sim \([a-z]*\)$/\1/p' "$mutation" | head -n 1)
	apply "$mutation" "$copy/tree"
	build
	restore "$name"
	set +e
	output=$("$CARGO_TARGET_DIR/sim/coordinatool-sim" "${simulator:-ha}" --seeds "$seeds" --once 2>&1)
	found=$?
	set -e
	first=$(grep -a -m 1 '^seed [0-9]*:' <<<"$output" || true)
	if ((found == 0)) || [[ -z $first ]]; then
		printf '%-32s %-7s %s\n' "$name" - "NOT FOUND in $seeds seeds: $(head -n 1 "$mutation")"
		missed=$((missed + 1))
	else
		number=${first#seed }
		printf '%-32s %-7s %.110s\n' "$name" "${number%%:*}" "${first#*: }"
	fi
done
((missed == 0)) || { echo "$missed mutations were not found" >&2; exit 1; }
