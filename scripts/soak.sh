#!/bin/sh
# Runs a scenario of app/e2e in its long form against the built executable, or the
# long form of another package's test, and records the figures in
# scripts/bench/results/soak-NAME.md.
#
#   sh scripts/soak.sh NAME...    chaos crash drain slow storm overload scale rolling killed stop rebalance leader reunion trouble region viewers pages engine history log, or all
#
# Sizes are set by the environment (E2E_AGENTS, E2E_SECONDS, … as below); what is
# given counts before the default of the long form. RESULTS is another directory
# for the records, COMMIT another name for what was tested.
set -eu
cd "$(dirname "$0")/.."

names=${*:?"soak: name a scenario: chaos crash drain slow storm overload scale rolling killed stop rebalance leader reunion trouble region viewers pages engine history log, or all"}
[ "$names" = all ] && names="chaos crash drain slow storm overload scale rolling killed stop rebalance leader reunion trouble region viewers pages engine history log"
results=${RESULTS:-scripts/bench/results}
commit=${COMMIT:-$(git describe --tags --always --dirty 2>/dev/null || echo unknown)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
mkdir -p "$results"

echo "== building"
CGO_ENABLED=1 go build -trimpath -o "$work/agentnet" .

# default VARIABLE VALUE: the long form's size, where none was given.
default() {
	eval "[ -n \"\${$1:-}\" ] || export $1=$2"
	eval "sizes=\"\$sizes $1=\$$1\""
}

# soak NAME: one scenario, in an environment of its own.
soak() (
	name=$1 sizes= pin= package=app/e2e
	case $name in
	chaos)
		test=TestChaos
		default E2E_AGENTS 1000
		default E2E_SECONDS 300
		default E2E_RATE 2
		;;
	crash)
		test=TestKillNine
		default E2E_ROUNDS 100
		;;
	viewers)
		test=TestViewersDoNotDisturb
		default E2E_VIEWERS 200
		default E2E_PAIRS 20
		default E2E_SECONDS 20
		;;
	engine)
		test=TestEngineDoesNotDisturb
		default E2E_ROUNDS 3
		default E2E_SECONDS 20
		default E2E_PAIRS 50
		default E2E_SERVER_CPU 0
		pin="taskset -c 1"
		;;
	pages)
		test=TestPagesWithALongHistory
		default E2E_DAYS 400
		default E2E_NODES 20
		default E2E_ROUNDS 3
		;;
	drain)
		test='TestDrain|TestSecondSignal'
		default E2E_CLIENTS 5000
		default E2E_WINDOW_MS 5000
		;;
	slow)
		test=TestSlowReaders
		default E2E_SLOW 100
		default E2E_HEALTHY 20
		default E2E_RATE 1000
		default E2E_SECONDS 30
		default E2E_SLOW_AFTER_MS 10000
		;;
	storm)
		test=TestStorm
		default E2E_CLIENTS 15000
		default E2E_PAIRS 50
		default E2E_CALM_SECONDS 10
		default E2E_CONNECTS_PER_S 5000
		default E2E_CONNECTS_BURST 2000
		default E2E_SERVER_CPU 0 # the crowd gets the other core
		pin="taskset -c 1"
		;;
	overload)
		test=TestOverload
		default E2E_SECONDS 60
		default E2E_SUBSCRIBERS 200
		default E2E_PUBLISHERS 64
		default E2E_PAIRS 10
		default E2E_SERVER_CPU 0 # the generator gets the other core
		pin="taskset -c 1"
		;;
	scale)
		test=TestScaleFleet
		default E2E_NODES 3
		default E2E_DOWN_SECONDS 60
		default E2E_HOLD_SECONDS 60
		;;
	rolling)
		test=TestClusterRolling
		default E2E_AGENTS 5000
		default E2E_ROUNDS 1
		default E2E_RATE 0.5
		;;
	killed)
		test=TestClusterKill
		default E2E_AGENTS 300
		default E2E_ROUNDS 9
		default E2E_RATE 2
		;;
	stop)
		test=TestClusterStop
		default E2E_CLIENTS 3000
		default E2E_MESSAGES 300
		;;
	rebalance)
		test=TestClusterRebalance
		default E2E_AGENTS 1500
		default E2E_REBALANCE_PER_S 10
		default E2E_RATE 1
		;;
	leader)
		test=TestClusterLeader
		default E2E_ROUNDS 10
		;;
	reunion)
		test=TestClusterReunion
		default E2E_AGENTS 200
		default E2E_ROUNDS 6
		default E2E_SECONDS 30
		;;
	trouble)
		test=TestClusterRedisTrouble
		default E2E_SECONDS 30
		;;
	region)
		test=TestClusterRegionCut
		default E2E_SECONDS 60
		;;
	history) # about 4 GB below TMPDIR, for some minutes
		package=app/scale/watch
		test='TestLongHistory|TestAlertCost'
		default HISTORY_DAYS 400
		default HISTORY_NODES 20
		default HISTORY_RUNS 5
		default HISTORY_SECONDS 600
		;;
	log)
		package=store
		test='TestScaleLogKilled|TestScaleLogKilledWhileTrimmed'
		default SCALELOG_ROUNDS 200
		;;
	*)
		echo "soak: $name is no scenario: chaos crash drain slow storm overload scale rolling killed stop rebalance leader reunion trouble region viewers pages engine history log, or all" >&2
		exit 2
		;;
	esac
	echo "== $name:$sizes"
	export E2E_LONG=1 E2E_BINARY="$work/agentnet" E2E_FIGURES="$work/$name.figures"
	: >"$E2E_FIGURES"
	CGO_ENABLED=1 go test -c -o "$work/long.test" "./$package" || return 1
	load=$(cut -d' ' -f1 /proc/loadavg)
	# shellcheck disable=SC2086 # pin is empty or several words
	(
		cd "$package"
		$pin "$work/long.test" -test.run "^($test)\$" -test.timeout 60m -test.v && code=0 || code=$?
		echo "$code" >"$work/code"
	) 2>&1 | tee "$work/$name.log" | grep --line-buffered -v -e '^=== ' || true
	code=$(cat "$work/code")
	{
		echo
		echo "## $(date -u '+%Y-%m-%d %H:%M') UTC, commit $commit"
		echo
		echo "Machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, Linux $(uname -r), $(go env GOVERSION); other work on the machine at the start: load average $load. Server and clients share the cores."
		echo
		echo "Command: \`$(echo "$sizes" | sed 's/^ //') sh scripts/soak.sh $name\`; $([ "$code" -eq 0 ] && echo passed || echo FAILED)."
		echo
		cat "$E2E_FIGURES"
		if [ "$code" -ne 0 ]; then
			echo
			echo "What failed:"
			echo
			sed 's/^- //' "$E2E_FIGURES" >"$work/known"
			grep -e '_test.go:[0-9]*: ' "$work/$name.log" | grep -v -e ' after the start: ' | grep -v -F -f "$work/known" | cut -c1-400 | head -n 40 | sed 's/^ */    /' || true
		fi
	} >>"$results/soak-$name.md"
	return "$code"
)

failed=
for name in $names; do
	record=$results/soak-$name.md
	[ -f "$record" ] || printf '# Long runs of the scenario "%s"\n' "$name" >"$record"
	soak "$name" || failed="$failed $name"
done
if [ -n "$failed" ]; then
	echo "== failed:$failed" >&2
	exit 1
fi
echo "== everything passed; records in $results"
