#!/bin/sh
# Builds ipip.bpf.o, the object that the agent embeds, from ipip.bpf.c.
#
#   build.sh           rebuild the object in place
#   build.sh --check   build a copy, compare it with the committed object byte by byte
#
# The object is committed, so that building the agent needs no clang. Other versions of
# clang give other bytes: CLANG names another one, the default is Debian 12's and that
# of Ubuntu 22.04 and 24.04. Exit codes: 0 done or equal, 1 failed or different,
# 2 wrong usage, 77 skipped because the compiler is missing (a failure where CI=true).
set -eu

usage() {
	echo "usage: build.sh [--check]" >&2
	exit 2
}

[ $# -le 1 ] || usage
case ${1-} in
'') mode=build ;;
--check) mode=check ;;
*) usage ;;
esac

CLANG=${CLANG:-clang-14}
# The compiler writes the name of its input into the object: a name without a path.
cd "$(dirname "$0")"
source=ipip.bpf.c
object=ipip.bpf.o

if ! command -v "$CLANG" >/dev/null 2>&1; then
	hint="hint: apt-get install clang-14 linux-libc-dev, or name a compiler with CLANG="
	if [ "$mode" = check ] && [ "${CI-}" != true ]; then
		printf 'skipped: bpf object check: %s not found\n%s\n' "$CLANG" "$hint" >&2
		exit 77
	fi
	printf 'error: bpf object: %s not found\n%s\n' "$CLANG" "$hint" >&2
	exit 1
fi

# bpfel: the same object on every host. v3: 32-bit arithmetic, since Linux 5.1.
# Nothing in it but code, maps and symbols: no debug info, compiler name or addresses.
# Debian keeps asm/*.h in a directory that clang does not search for a foreign target.
compile() {
	"$CLANG" -target bpfel -mcpu=v3 -O2 -g0 -fno-ident -fno-addrsig \
		-std=gnu11 -Wall -Wextra -Werror \
		-idirafter "/usr/include/$(uname -m)-linux-gnu" \
		-c "$source" -o "$1"
}

if [ "$mode" = build ]; then
	compile "$object"
	echo "built $object with $("$CLANG" --version | head -n 1)"
	exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
compile "$scratch/$object"
if cmp "$object" "$scratch/$object" >&2; then
	echo "$object is what $source gives"
else
	{
		echo "error: $object is not what $source gives with $("$CLANG" --version | head -n 1)"
		echo "hint: run dataplane/bpf/build.sh (make bpf) with clang-14 and commit the object"
	} >&2
	exit 1
fi
