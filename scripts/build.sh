#!/bin/sh
# Builds the one executable, statically linked, for the machine it runs on.
#
#   sh scripts/build.sh [FILE]     writes ./agentnet, or FILE
#
# VERSION names the release; without it git describes the commit.
set -eu
cd "$(dirname "$0")/.."

out=${1:-agentnet}
commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
version=${VERSION:-$(git describe --tags --always --dirty 2>/dev/null || echo dev)}

flags="-s -w -X main.version=$version -X main.commit=$commit"
if [ "$(go env GOOS)" = linux ]; then
	flags="$flags -linkmode external -extldflags -static"
fi
CGO_ENABLED=1 go build -trimpath \
	-tags "sqlite_omit_load_extension netgo osusergo" \
	-ldflags "$flags" -o "$out" .
echo "built $out ($version, $commit)"
