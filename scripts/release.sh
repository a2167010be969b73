#!/bin/sh
# Builds what a release consists of into dist/: the static executable for this
# machine's platform as a .tar.gz with licence and read-me, and its checksum.
#
#   VERSION=v1.2.3 sh scripts/release.sh
set -eu
cd "$(dirname "$0")/.."

: "${VERSION:?say which version, like VERSION=v1.2.3}"
name="agentnet-$VERSION-$(go env GOOS)-$(go env GOARCH)"
rm -rf "dist/$name"
mkdir -p "dist/$name"
sh scripts/build.sh "dist/$name/agentnet"
"dist/$name/agentnet" version
cp LICENSE README.md CHANGELOG.md "dist/$name/"
tar -C dist -czf "dist/$name.tar.gz" "$name"
rm -rf "dist/$name"
(cd dist && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
echo "wrote dist/$name.tar.gz"
