#!/bin/sh
# Checks that need no running server: form, vet, staticcheck, known
# vulnerabilities, the module files, generated files, other platforms.
# Every check runs; the script ends with 1 when any of them failed.
set -u
cd "$(dirname "$0")/.." || exit 1

failed=""
begin() { printf '== %s\n' "$*"; }
fail() {
	printf '!! %s\n' "$*"
	failed="$failed
  $*"
}

begin "gofmt"
unformatted=$(find . -name '*.go' -not -path './.git/*' -not -path '*/node_modules/*' -exec gofmt -l {} +)
[ -z "$unformatted" ] || fail "gofmt -w is needed on: $(echo "$unformatted" | tr '\n' ' ')"

begin "shell scripts parse"
for script in scripts/*.sh; do
	sh -n "$script" || fail "sh -n $script"
done
bash -n .ci/run || fail "bash -n .ci/run"

begin "go vet"
go vet ./... || fail "go vet"

begin "staticcheck"
go tool staticcheck ./... || fail "staticcheck"

begin "go mod verify, go mod tidy -diff"
go mod verify || fail "go mod verify"
go mod tidy -diff || fail "go mod tidy would change go.mod or go.sum"

if [ -f scripts/bench/go.mod ]; then
	begin "scripts/bench: vet"
	(cd scripts/bench && go vet ./...) || fail "go vet in scripts/bench"
fi

begin "generated files are up to date"
# Sums before and after, not git diff, so that it also works in a tree with
# uncommitted changes.
sums() {
	find . \( -name '*_templ.go' -o -name '*.pb.go' -o -path './packaging/monitoring/*' \) -not -path './.git/*' -exec sha256sum {} + | sort -k 2
}
before=$(mktemp) && after=$(mktemp)
trap 'rm -f "$before" "$after" "${report:-}"' EXIT
sums >"$before"
sh scripts/generate.sh || fail "generate"
sums >"$after"
diff -u "$before" "$after" || fail "generated files were stale; scripts/generate.sh has written them anew"

begin "promtool: alert rules"
if command -v promtool >/dev/null 2>&1; then
	promtool check rules packaging/monitoring/agentnet.rules.yml || fail "promtool check rules"
	promtool test rules packaging/monitoring/agentnet.rules.test.yml || fail "promtool test rules"
else
	fail "promtool is missing (apt-get install prometheus)"
fi

begin "go vet for darwin and windows, without cgo"
# SQLite is C code, so packages that reach it can only be vetted where they are built.
# Tests count: what only they import has to be built too.
native=$(go list -f '{{$p := ""}}{{if eq .ImportPath "github.com/mattn/go-sqlite3"}}{{$p = .ImportPath}}{{end}}{{range .Deps}}{{if eq . "github.com/mattn/go-sqlite3"}}{{$p = $.ImportPath}}{{end}}{{end}}{{$p}}' ./... | grep .)
portable=$(go list -f '{{.ImportPath}} {{join .TestImports " "}} {{join .XTestImports " "}}' ./... | awk -v native="$native" '
	BEGIN { n = split(native, list, "\n"); for (i = 1; i <= n; i++) bad[list[i]] = 1 }
	{ ok = 1; for (i = 1; i <= NF; i++) if ($i in bad) ok = 0; if (ok && $1 !~ /\/e2e$/) print $1 }')
[ -n "$portable" ] || fail "no package is portable"
for os in darwin windows; do
	# shellcheck disable=SC2086 # one argument a package is meant
	GOOS=$os CGO_ENABLED=0 go vet $portable || fail "go vet for $os"
done

begin "govulncheck"
report=$(mktemp)
timeout 180 go tool govulncheck ./... >"$report" 2>&1
case $? in
0) tail -n 1 "$report" ;;
3)
	cat "$report"
	fail "govulncheck found vulnerabilities that are called"
	;;
*)
	if grep -q -i -e 'fetching vulnerabilities' -e 'dial tcp' -e 'no such host' -e 'vuln.go.dev' -e 'proxyconnect' "$report"; then
		echo "not run: the vulnerability database could not be reached"
	elif [ ! -s "$report" ]; then
		echo "not run: the vulnerability database did not answer in time"
	else
		cat "$report"
		fail "govulncheck"
	fi
	;;
esac

if [ -n "$failed" ]; then
	printf '\ncheck: failed:%s\n' "$failed"
	exit 1
fi
printf '\ncheck: all good\n'
