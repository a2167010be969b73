#!/bin/sh
# Installs the kinds of Redis that the tests run on besides Debian's redis-server,
# from other releases of the Debian that this machine is set up for:
#
#   valkey-server   Valkey, from the backports of this release
#   redis6-server   Redis 6.0, the last one without sharded Pub/Sub, from Debian 11,
#                   with the libraries of its time
#
# They go into /usr/local/lib/agentnet-redises with a starter each in /usr/local/bin.
# Nothing else of the machine changes: no source of packages is added, no service
# starts. Run as root, or with sudo at hand.
set -eu
place=${AGENTNET_REDISES:-/usr/local/lib/agentnet-redises}
bin=${AGENTNET_REDISES_BIN:-/usr/local/bin}
as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo"

if ! command -v apt-get >/dev/null 2>&1; then
	echo "redises: this is not a Debian system: install valkey-server (8) and, as redis6-server, a redis-server of version 6 by hand" >&2
	exit 1
fi
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' | sed -n "s/^$codename //p" | head -n 1)
if [ -z "$mirror" ]; then
	echo "redises: apt knows no source of $codename: apt-get update, and run again" >&2
	exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# fetch SUITE PROGRAM PACKAGE...: unpacks the newest packages of a suite, and leaves a
# starter with the libraries that came along.
fetch() {
	suite=$1 program=$2 from=$3
	shift 3
	mkdir -p "$work/$program/lists/partial" "$work/$program/cache/archives/partial" "$work/$program/debs" "$work/$program/root"
	cat > "$work/$program/suite.sources" <<SOURCES
Types: deb
URIs: $mirror
Suites: $suite
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
	: > "$work/$program/status" # what is installed here does not count
	options="-qq -o Dir::Etc::sourcelist=$work/$program/suite.sources -o Dir::Etc::sourceparts=- -o Dir::State::lists=$work/$program/lists -o Dir::State::status=$work/$program/status -o Dir::Cache=$work/$program/cache -o APT::Sandbox::User=root"
	# shellcheck disable=SC2086 # several words are meant
	apt-get $options update
	# shellcheck disable=SC2086
	(cd "$work/$program/debs" && apt-get $options download "$@")
	for deb in "$work/$program/debs"/*.deb; do
		dpkg-deb -x "$deb" "$work/$program/root"
	done
	$as_root rm -rf "$place/$program"
	$as_root mkdir -p "$place" "$bin"
	$as_root cp -a "$work/$program/root" "$place/$program"
	library=$(find "$place/$program/usr/lib" -name '*.so.*' 2>/dev/null | head -n 1)
	{
		echo '#!/bin/sh'
		[ -z "$library" ] || echo "export LD_LIBRARY_PATH='$(dirname "$library")'"
		echo "exec '$place/$program/usr/bin/$from' \"\$@\""
	} > "$work/starter"
	$as_root install -m 0755 "$work/starter" "$bin/$program"
	"$bin/$program" --version
}

command -v valkey-server >/dev/null 2>&1 || fetch "$codename-backports" valkey-server valkey-server valkey-server valkey-tools
command -v redis6-server >/dev/null 2>&1 || fetch bullseye redis6-server redis-server redis-server redis-tools libssl1.1 liblua5.1-0 lua-cjson lua-bitop
