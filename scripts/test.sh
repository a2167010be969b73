#!/bin/sh
# Everything that must hold before a change lands: installs what the tests need
# and the machine lacks, runs scripts/check.sh, then all tests with the race
# detector. Ends non-zero when anything failed.
#
#   sh scripts/test.sh             everything
#   sh scripts/test.sh ./app/...   checks, then only the tests of these packages
set -eu
cd "$(dirname "$0")/.."

# need PROGRAM PACKAGE...: installs Debian packages when PROGRAM is missing.
need() {
	program=$1
	shift
	if command -v "$program" >/dev/null 2>&1; then
		return 0
	fi
	echo "== installing $* ($program is missing)"
	if ! command -v apt-get >/dev/null 2>&1; then
		echo "test: $program is missing and this is not a Debian system: install it and run again" >&2
		exit 1
	fi
	as_root=""
	if [ "$(id -u)" -ne 0 ]; then
		if ! command -v sudo >/dev/null 2>&1; then
			echo "test: $program is missing: run as root: apt-get install $*" >&2
			exit 1
		fi
		as_root="sudo"
	fi
	if [ -z "${updated:-}" ]; then
		$as_root apt-get update -qq
		updated=yes
	fi
	DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends "$@"
}

if ! command -v go >/dev/null 2>&1; then
	echo "test: go is missing: install Go 1.26 or newer (https://go.dev/dl)" >&2
	exit 1
fi
# cgo (SQLite) and the race detector need a C compiler and the C library's headers.
command -v cc >/dev/null 2>&1 || need gcc gcc libc6-dev
need redis-server redis-server
command -v valkey-server >/dev/null 2>&1 && command -v redis6-server >/dev/null 2>&1 || sh scripts/redises.sh
need chromium chromium
need protoc protobuf-compiler
need nginx nginx-light
need caddy caddy
need haproxy haproxy
need promtool prometheus

echo "== downloading modules"
go mod download

sh scripts/check.sh

# The tests of whole nodes come last, in two halves at the same time: they wait more
# than they work.
packages=${*:-$(go list ./... | grep -v '/app/e2e$')}
# Two packages at a time: more would starve the tests that look at latency.
echo "== go test -race ${*:-./..., without app/e2e}"
# shellcheck disable=SC2086 # one argument a package is meant
CGO_ENABLED=1 go test -race -p 2 -timeout 15m $packages

if [ $# -eq 0 ]; then
	echo "== go test -race ./app/e2e"
	# One pattern, run by one half and skipped by the other: no test is in both or none.
	# The halves take about as long as each other.
	first='^Test(Cluster.*|Chaos|KillNine|Drain|SecondSignal|ReturnWithoutSession|Overload|SlowReaders)$'
	CGO_ENABLED=1 go test -race -timeout 15m -run "$first" ./app/e2e &
	half=$!
	code=0
	CGO_ENABLED=1 go test -race -timeout 15m -skip "$first" ./app/e2e || code=$?
	wait "$half" || code=$?
	[ "$code" -eq 0 ] || exit "$code"
fi

# Under the race detector the property tests of the scaling engine run fewer
# histories, and its speed is not judged: all of that is here.
if [ $# -eq 0 ]; then
	echo "== go test ./app/scale, without the race detector"
	CGO_ENABLED=1 go test -timeout 10m ./app/scale
fi

if [ -f scripts/bench/go.mod ] && [ $# -eq 0 ]; then
	echo "== go test in scripts/bench"
	(cd scripts/bench && go test -timeout 5m ./...)
fi
echo "== everything passed"
