#!/bin/sh
# Runs a whole fleet on this machine: several nodes over one Redis, many agents on
# each, and messages between agents of different nodes. Records what came of it in
# scripts/bench/results/fleet.md.
#
#   sh scripts/fleet.sh        eleven nodes, 200,000 agents, 20,000 messages a second
#
# NODES, PAIRS, RATE (messages a second), SECONDS_LOAD and PROCESSES (of the load
# generator) make it smaller. The last lines say whether the rate was held with a p95
# of at most P95_MS (200), and what stopped it when not. BENCH_FLAGS are more flags of the load generator, such
# as --no-answers. Each node runs on NODE_PROCS processors at a time: what many
# processes on few cores would spend on waking each other's threads is no property
# of a fleet. Nodes do not rebalance, since the load generator spreads its connections
# evenly, unless REBALANCE (connections a second) says so: it follows those that are
# moved, and counts them. RESULTS is another folder for the record.
set -eu
cd "$(dirname "$0")/.."

nodes=${NODES:-11}
pairs=${PAIRS:-100000}
rate=${RATE:-20000}
seconds=${SECONDS_LOAD:-60}
limit=${P95_MS:-200}
procs=${NODE_PROCS:-1}
flags=${BENCH_FLAGS:-}
rebalance=${REBALANCE:-0}
processes=${PROCESSES:-$((pairs * 2 / 18000 + 1))}
results=${RESULTS:-scripts/bench/results}
commit=${COMMIT:-$(git describe --tags --always --dirty 2>/dev/null || echo unknown)}
work=$(mktemp -d)
pids=

ending() {
	# shellcheck disable=SC2086 # several process ids
	[ -z "$pids" ] || kill $pids 2>/dev/null || true
	wait 2>/dev/null || true
	rm -rf "$work"
}
trap ending EXIT
trap 'exit 130' INT TERM

command -v redis-server >/dev/null 2>&1 || {
	echo "fleet: redis-server is missing: apt-get install redis-server" >&2
	exit 1
}
ulimit -n "$(ulimit -H -n)"

echo "== building"
CGO_ENABLED=1 go build -trimpath -o "$work/agentnet" .

port=${PORT:-27600}
echo "== starting redis and $nodes nodes"
redis-server --bind 127.0.0.1 --port "$port" --save '' --appendonly no --loglevel warning >"$work/redis.log" 2>&1 &
redis=$!
pids=$redis
urls=
n=0
while [ "$n" -lt "$nodes" ]; do
	n=$((n + 1))
	GOMAXPROCS=$procs "$work/agentnet" serve --listen "127.0.0.1:$((port + n))" --node "n$n" --data "$work/n$n" --redis "redis://127.0.0.1:$port" \
		--rebalance-per-s "$rebalance" --log-level warn >"$work/n$n.out" 2>"$work/n$n.log" &
	pids="$pids $!"
	urls="$urls${urls:+,}http://127.0.0.1:$((port + n))"
	[ "$n" -ne 1 ] || first=$!
done

# ready URL: waits until the node says that it is.
ready() {
	i=0
	until curl -fsS -o /dev/null "$1/readyz" 2>/dev/null; do
		i=$((i + 1))
		[ "$i" -lt 300 ] || {
			echo "fleet: $1 was not ready in 60 s" >&2
			cat "$work"/n*.log >&2
			exit 1
		}
		sleep 0.2
	done
}
for url in $(echo "$urls" | tr , ' '); do ready "$url"; done
kill -0 "$first"
AGENTNET_TOKEN=$("$work/agentnet" token create --data "$work/n1" --agent 'bench/**')
export AGENTNET_TOKEN
sleep 5 # the token is known everywhere within 2 s

load=$(cut -d' ' -f1 /proc/loadavg)
echo "== $((pairs * 2)) agents, $rate messages a second between nodes, for $seconds s"
code=0
# shellcheck disable=SC2086 # several flags
"$work/agentnet" bench direct --url "$urls" --pairs "$pairs" --rate "$rate" --processes "$processes" --warmup 10s --settle 10s \
	--duration "${seconds}s" --timeout 10m --concurrency 100 --sources 4 $flags --with "$redis" >"$work/report" 2>"$work/errors" || code=$?
cat "$work/report" "$work/errors"

# verdict: whether the fleet held the rate with a p95 within the limit, and what stopped
# it when not. CPU is that of the time of the load, of nodes, Redis and generator.
verdict() {
	awk -v asked="$rate" -v limit="$limit" -v cores="$(nproc)" -v code="$code" -v pairs="$pairs" '
		function ms(value, unit) { return unit == "s" ? value * 1000 : unit == "ms" ? value : value / 1000 }
		$1 == "connections" { there = $2 }
		$1 == "direct" {
			for (i = 2; i <= NF; i++) {
				if ($i ~ /\/s$/) reached = $i + 0
				if ($i == "p95") { p95 = ms($(i + 1), $(i + 2)); seen = 1 }
			}
		}
		/^ *lost [0-9]/ { lost = $2 + 0; doubled = $4 + 0; for (i = 1; i < NF; i++) if ($i == "refused") refused = $(i + 1) + 0 }
		/^ *[0-9]+ × / { why = why (why == "" ? "" : ", ") substr($0, match($0, /[0-9]/)) }
		/^server CPU|^generator CPU|^beside it/ { cpu += $3 }
		/other processes took/ { for (i = 1; i <= NF; i++) if ($i ~ /%/) others = $i + 0 }
		END {
			if (!seen) { printf "verdict: no figures: the load generator ended with %d before the load; its errors are above\n", code; exit }
			full = cpu + others >= 90 * cores
			held = reached >= asked * 0.98 && p95 <= limit && refused == 0 && there >= 2 * pairs
			printf "verdict: %s: %d connections, %.0f of %d msg/s asked between nodes, p95 %.1f ms (limit %d), lost %d, doubled %d, refused %d; CPU %.0f%% of %d%%", held ? "held" : "NOT held", there, reached, asked, p95, limit, lost, doubled, refused, cpu, 100 * cores
			if (others > 0) printf ", other processes %.0f%%", others
			if (!held) {
				printf "; what stopped it: "
				if (there < 2 * pairs) printf "only %d of %d connections", there, 2 * pairs
				else if (full) printf "the %d cores are full", cores
				else if (refused > 0) printf "messages were refused with CPU left"
				else printf "neither CPU nor refusals: a wait inside the fleet or its generator"
				if (why != "") printf " (%s)", why
			}
			printf "\n"
		}' "$work/report"
	# What the nodes warned of, the most frequent first.
	grep -hv "no admin yet" "$work"/n*.log | sed -n 's/.*"\?msg"\?[=:]"\([^"]*\)".*/\1/p' | sort | uniq -c | sort -rn | head -n 5 | sed 's/^ */nodes warned: /'
}

mkdir -p "$results"
record=$results/fleet.md
[ -f "$record" ] || printf '# A whole fleet on one machine (scripts/fleet.sh)\n' >"$record"
{
	echo
	echo "## $(date -u '+%Y-%m-%d %H:%M') UTC, commit $commit"
	echo
	echo "Machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, $(awk '/MemTotal/ {printf "%d GiB", $2 / 1048576 + 0.5}' /proc/meminfo), Linux $(uname -r), $(go env GOVERSION). Nodes, Redis and load generator share the cores; load average before the load $load."
	echo
	echo "Command: \`NODES=$nodes PAIRS=$pairs RATE=$rate SECONDS_LOAD=$seconds PROCESSES=$processes NODE_PROCS=$procs REBALANCE=$rebalance${flags:+ BENCH_FLAGS='$flags'} sh scripts/fleet.sh\`; the two agents of each pair are on different nodes."
	echo
	sed 's/^/    /' "$work/report" "$work/errors"
	echo
	verdict | sed 's/^/    /'
	echo
	echo "    node       RSS MB  CPU s in all"
	n=0
	for pid in $pids; do
		[ -r "/proc/$pid/status" ] || continue
		name=redis
		[ "$n" -eq 0 ] || name=n$n
		n=$((n + 1))
		awk -v name="$name" '/VmRSS/ {rss = $2 / 1024} END {printf "    %-8s %8.0f", name, rss}' "/proc/$pid/status"
		awk '{sub(/.*\) /, ""); printf "  %12.1f\n", ($12 + $13) / 100}' "/proc/$pid/stat"
	done
} >"$work/record"
cat "$work/record" >>"$record"
sed -n '/^    node  /,$p; /^    verdict: /p; /^    nodes warned: /p' "$work/record"
echo "== recorded in $record"
exit "$code"
