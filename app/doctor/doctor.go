// Package doctor looks for what keeps a relay from working well that is not the
// relay's own doing: too few file descriptors, a proxy that buffers, a full disk,
// a clock that is off. Each finding says what was seen and, when it is not good,
// what to do.
//
// It only looks: besides a small file that it writes to the data directory to
// measure the disk, and removes, it changes nothing. It knows neither SQLite nor
// the relay: who calls it hands over functions that look into them. It never
// shows tokens, passwords or payloads.
package doctor

import (
	"context"
	"fmt"
	"time"

	"agentnet/app/redis"
)

// Result is how a check came out.
type Result string

const (
	OK      Result = "ok"
	Warn    Result = "warn"    // works, but not well or not for long
	Fail    Result = "fail"    // does not work, or puts data at risk
	Skipped Result = "skipped" // could not be looked at; Evidence says why
)

// A Finding is the outcome of one check.
type Finding struct {
	Group    string  `json:"group"`
	Check    string  `json:"check" doc:"Stable name."`
	Title    string  `json:"title"`
	Result   Result  `json:"result" enum:"ok,warn,fail,skipped"`
	Evidence string  `json:"evidence" doc:"What was seen."`
	Fix      string  `json:"fix,omitempty" doc:"What to do."`
	TookMS   float64 `json:"took_ms"`
}

// A Bound is memory that the configuration lets the relay use.
type Bound struct {
	Key   string // of the configuration
	Bytes int64
}

// A Database is what was seen of the database.
type Database struct {
	Schema, Knows    int
	Bytes, WAL, Free int64
	Max              int64 // bytes that it may grow to; 0: any
}

// A Journal is what was seen of the journal of parked messages.
type Journal struct {
	Messages, Segments int
	Bytes, Torn        int64
	Damaged            []string
	SetAside           int
}

// Config says what is looked at. What is empty is not: its check is Skipped.
type Config struct {
	Proc, Sys string // "/proc" and "/sys" unless a test has others
	PID       int    // of the server; 0: this process
	Running   bool   // PID serves now

	Data           string
	Listen         string
	BasePath       string
	PublicURL      string
	TrustedProxies []string
	TLSCert        string
	TLSKey         string
	ACME           bool
	Redis          string // URL with password
	RedisTLS       redis.TLS

	Connections int // that it is configured for; 0: no limit
	Bounds      []Bound

	// Database and Journal look into the files of Data. Nil: not looked at.
	Database func(context.Context) (Database, error)
	Journal  func(context.Context) (Journal, error)

	// URL is where the server is asked, through whatever stands in front of it.
	URL string
	// Token may be "". One with the role admin learns more of a proxy.
	Token string
	// CA is a PEM file with a private certificate authority, "" for none.
	CA string
	// Idle is how long an open connection is left alone to see whether a proxy cuts
	// it. 0: it is not tried.
	Idle time.Duration

	Now func() time.Time // nil: time.Now
}

// checkTime bounds one check.
const checkTime = 15 * time.Second

// An outcome is what a check returns.
type outcome struct {
	result        Result
	evidence, fix string
}

func good(format string, args ...any) outcome { return outcome{OK, fmt.Sprintf(format, args...), ""} }
func skip(format string, args ...any) outcome {
	return outcome{Skipped, fmt.Sprintf(format, args...), ""}
}
func warn(evidence, fix string) outcome { return outcome{Warn, evidence, fix} }
func fail(evidence, fix string) outcome { return outcome{Fail, evidence, fix} }

// A check looks at one thing.
type check struct {
	group, name, title string
	look               func(context.Context, *Config) outcome
}

// checks is the table of all, in the order in which they are shown.
func checks() []check {
	return []check{
		{"machine", "file_descriptors", "File descriptors", fileDescriptors},
		{"machine", "kernel", "Kernel network settings", kernel},
		{"machine", "cgroup", "Limits of the container or unit", cgroup},
		{"machine", "memory", "Memory against configured bounds", memoryBounds},
		{"machine", "clock", "Clock", clock},
		{"machine", "time_zone", "Time zone", timeZone},
		{"data", "data_directory", "Data directory: owner and modes", dataModes},
		{"data", "file_system", "File system", fileSystem},
		{"data", "disk_space", "Disk space", diskSpace},
		{"data", "disk_speed", "Disk speed", diskSpeed},
		{"data", "database", "Database", database},
		{"data", "journal", "Journal of parked messages", journal},
		{"network", "exposure", "Who can reach the port", exposure},
		{"network", "public_url", "Public URL", publicURL},
		{"network", "certificate", "TLS certificate", certificate},
		{"network", "proxy_headers", "Client addresses through the proxy", proxyHeaders},
		{"network", "websocket", "WebSocket", webSocket},
		{"network", "stream", "Server-sent events", stream},
		{"redis", "redis_server", "Redis server", redisServer},
		{"redis", "redis_memory", "Redis memory", redisMemory},
		{"redis", "redis_latency", "Redis latency", redisLatency},
		{"redis", "redis_pubsub", "Redis Pub/Sub", redisPubSub},
		{"redis", "redis_clock", "Redis clock", redisClock},
	}
}

func (c *check) run(ctx context.Context, cfg *Config) (f Finding) {
	f = Finding{Group: c.group, Check: c.name, Title: c.title}
	began := time.Now()
	defer func() {
		f.TookMS = float64(time.Since(began).Microseconds()) / 1000
		if v := recover(); v != nil {
			f.Result, f.Evidence = Skipped, fmt.Sprintf("the check itself failed (%T); please report it", v)
		}
	}()
	if err := ctx.Err(); err != nil {
		f.Result, f.Evidence = Skipped, "no time was left for it"
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime+cfg.Idle)
	defer cancel()
	o := c.look(ctx, cfg)
	f.Result, f.Evidence, f.Fix = o.result, o.evidence, o.fix
	return f
}

// Worst is the worst result of all: Fail, else Warn, else OK.
func Worst(all []Finding) Result {
	worst := OK
	for _, f := range all {
		if f.Result == Fail || f.Result == Warn && worst == OK {
			worst = f.Result
		}
	}
	return worst
}

// bytes writes a number of bytes for a person.
func bytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, u := float64(n), 0
	for v >= 1024 && u < len(units)-1 {
		v, u = v/1024, u+1
	}
	if u == 0 || v >= 100 {
		return fmt.Sprintf("%.0f %s", v, units[u])
	}
	return fmt.Sprintf("%.1f %s", v, units[u])
}

// short rounds a time for a person.
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}
