#!/bin/sh
# Builds router.bpf.o. Debian: apt-get install clang-14 llvm-14 libbpf-dev
# Paths in the debug information are relative and the DWARF part is left out, so that equal sources give equal objects.
set -eu
cd "$(dirname "$0")"
output=${1:-router.bpf.o}
clang-14 -O2 -g -Wall -target bpf -mcpu=v3 -fdebug-compilation-dir=. \
	-I"/usr/include/$(uname -m)-linux-gnu" -c router.bpf.c -o "$output"
llvm-strip-14 --strip-debug "$output"
