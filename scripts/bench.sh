#!/bin/sh
# Measures the relay and its peers, nats-server and centrifuge, under the same
# load: server on core 0, load generator on core 1, medians of three runs. Prints
# a table and records it in scripts/bench/results.
#
#   sh scripts/bench.sh                     everything; some 15 minutes
#   sh scripts/bench.sh quick               one short run each, not recorded
#   sh scripts/bench.sh [quick] ARGUMENT…   passed to `bench compare`, like
#                                           --only idle, --servers nats,centrifuge,
#                                           --serve=--some-flag-of-agentnet-serve
set -eu
cd "$(dirname "$0")/.."

if [ "${1:-}" = quick ]; then
	shift
	set -- --quick "$@"
fi
mkdir -p scripts/bench/bin
echo "== building"
(cd scripts/bench && go build -trimpath -o bin/bench .)
case "$*" in
*--servers*) ;; # the relay may not be among them
*) sh scripts/build.sh scripts/bench/bin/agentnet ;;
esac
exec scripts/bench/bin/bench compare --agentnet scripts/bench/bin/agentnet --results scripts/bench/results "$@"
