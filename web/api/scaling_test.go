package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"agentnet/app/relay"
	"agentnet/app/scale"
	"agentnet/app/scale/watch"
	"agentnet/store"
)

// scalingStore is the database in the form that the engine wants, as package app
// has it.
type scalingStore struct{ *store.Store }

func (s scalingStore) Setting(ctx context.Context, name string) (string, error) {
	v, _, err := s.Store.Setting(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	return v, err
}

func (s scalingStore) PutSetting(ctx context.Context, name, value string) error {
	return s.Store.PutSetting(ctx, name, value, time.Now())
}

func (s scalingStore) ScaleLogEntry(ctx context.Context, origin string, seq uint64) (scale.LogEntry, error) {
	e, err := s.Store.ScaleLogEntry(ctx, origin, seq)
	if errors.Is(err, store.ErrNotFound) {
		return e, &watch.Fault{Kind: watch.FaultNotFound, Text: "there is no such entry"}
	}
	return e, err
}

// newScaled is a node with the real engine on a real database.
func newScaled(t *testing.T) *node {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	policy := scale.LonePolicy(scale.Capacity{})
	policy.Targets = []scale.Target{{Signal: scale.Connections, Value: 200}}
	stats := relay.Stats{Node: "n1", Started: time.Now(), Connections: 42}
	svc, err := watch.New(t.Context(), watch.Config{Node: "n1", Region: "eu", Store: scalingStore{db}, Logger: slog.New(slog.DiscardHandler),
		Engine: scale.Config{Policy: policy, Rules: scale.DefaultRules()}, Sources: watch.Sources{Stats: func() relay.Stats { return stats }, Host: scale.NewHost("/", 2)}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	n := newNode(t, func(c *Config, _ *node) { c.Scaling = svc })
	for deadline := time.Now().Add(20 * time.Second); svc.Status().Work.Ticks < 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the engine did not look at the fleet")
		}
	}
	if _, err := svc.Note(t.Context(), "alice", "=1+1 is a note", 0); err != nil {
		t.Fatal(err)
	}
	return n
}

var asJSON = []string{"Content-Type", "application/json"}

// TestScalingRoutes asks every route rightly and wrongly, as nobody, a viewer and
// an admin.
func TestScalingRoutes(t *testing.T) {
	n := newScaled(t)
	tests := []struct {
		method, path, body string
		status             int // for an admin
		has                string
	}{
		{"GET", "/v1/scaling/status", "", 200, `"current":1,"desired":1`},
		{"GET", "/v1/scaling/desired", "", 200, `"connections":{"value":42,"target":200,"total":42`},
		{"GET", "/v1/scaling/desired", "", 200, `"max_concurrency":1000`},
		{"GET", "/v1/scaling/desired?format=plain", "", 200, "1\n"},
		{"GET", "/v1/scaling/desired?format=plain&signal=connections", "", 200, "42\n"},
		{"GET", "/v1/scaling/desired?format=plain&signal=cpu", "", 404, "the policy does not use it"},
		{"GET", "/v1/scaling/desired?format=xml", "", 400, "json or plain"},
		{"GET", "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/agentnet_connections", "", 200, `"kind":"ExternalMetricValueList","apiVersion":"external.metrics.k8s.io/v1beta1"`},
		{"GET", "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/agentnet_desired_instances", "", 200, `"value":"1"`},
		{"GET", "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/connections", "", 404, "unknown"},
		{"GET", "/v1/scaling/history?range=5m&signals=connections&nodes=fleet,n1", "", 200, `"signal":"connections","unit":"connections","points":[{`},
		{"GET", "/v1/scaling/history?format=csv&range=5m", "", 200, "node,signal,unit,at,count,min,avg,max,p50,p95,p99\n"},
		{"GET", "/v1/scaling/history?range=1000d", "", 400, "at most 400d"},
		{"GET", "/v1/scaling/history?from=yesterday", "", 400, "from: expected a time"},
		{"GET", "/v1/scaling/history?from=2030-01-01T00:00:00Z", "", 400, "from"},
		{"GET", "/v1/scaling/history?signals=heat", "", 400, "heat"},
		{"GET", "/v1/scaling/history?points=601", "", 400, "points"},
		{"GET", "/v1/scaling/outlook", "", 200, `"good":false`},
		{"GET", "/v1/scaling/nodes", "", 200, `{"nodes":["n1"]}`},

		{"GET", "/v1/scaling/log", "", 200, `"kind":"note","actor":"alice"`},
		{"GET", "/v1/scaling/log?kinds=node&limit=1", "", 200, "n1 started"},
		{"GET", "/v1/scaling/log?kinds=fun", "", 400, "kinds"},
		{"GET", "/v1/scaling/log?limit=0", "", 400, "limit"},
		{"GET", "/v1/scaling/log?order=random", "", 400, "order"},
		{"GET", "/v1/scaling/log?format=csv", "", 200, `,'=1+1 is a note,`},
		{"GET", "/v1/scaling/log/export", "", 200, `"summary":"=1+1 is a note"`},
		{"GET", "/v1/scaling/log/export?format=csv&kinds=note", "", 200, "origin,seq,at,kind"},
		{"GET", "/v1/scaling/log/entry?id=1", "", 200, `"led":[]`},
		{"GET", "/v1/scaling/log/entry?id=n1:77", "", 404, "no such entry"},
		{"GET", "/v1/scaling/log/entry?id=x", "", 400, "ORIGIN:SEQ"},
		{"GET", "/v1/scaling/log/replay?id=1", "", 400, "records what happened"},
		{"GET", "/v1/scaling/log/verify", "", 200, `"whole":true`},
		{"POST", "/v1/scaling/log/notes", `{"text":"deployed"}`, 200, `"summary":"deployed"`},
		{"POST", "/v1/scaling/log/notes", `{"text":" "}`, 400, "text"},
		{"POST", "/v1/scaling/log/notes", `{"txt":"x"}`, 400, "txt"},

		{"POST", "/v1/scaling/plan", `{"users":50000,"document":true}`, 200, `"instances":100`},
		{"POST", "/v1/scaling/plan", `{}`, 400, "give users, connections or messages"},
		{"POST", "/v1/scaling/plan", `{"connections":3200,"messages":20000,"capacity":{"connections":640,"messages":6000,"scale_at":0,"source":""}}`, 200, `"instances":8`},
		{"POST", "/v1/scaling/simulate", `{"scenario":"spike","users":200,"hours":1}`, 200, `"frames":[{`},
		{"POST", "/v1/scaling/simulate", `{"scenario":"dance","users":200}`, 400, "dance"},
		{"POST", "/v1/scaling/simulate", `{"scenario":"daily","users":200,"hours":9600,"step_s":1}`, 400, "steps"},
		{"POST", "/v1/scaling/simulate", `{"scenario":"recorded","users":200}`, 400, "recorded"},
		{"POST", "/v1/scaling/mode", `{"mode":"observe","reason":"quiet"}`, 200, "mode advise to observe: quiet"},
		{"POST", "/v1/scaling/mode", `{"mode":"act"}`, 400, "no actuator"},
		{"POST", "/v1/scaling/mode", `{"mode":"dance"}`, 400, "mode"},
		{"POST", "/v1/scaling/mode", `{}`, 400, "mode"},
		{"POST", "/v1/scaling/pause", `{"pause":"all"}`, 200, "pause none to all"},
		{"POST", "/v1/scaling/pause", `{}`, 400, "pause"},
		{"POST", "/v1/scaling/pin", `{"count":1}`, 200, "pinned to 1"},
		{"POST", "/v1/scaling/pin", `{"count":-1}`, 400, "pinned"},
		{"POST", "/v1/scaling/capacity", `{"bytes_per_connection":0}`, 400, "above 0"},
		{"POST", "/v1/scaling/capacity", `{"bytes_per_connection":10240,"cpu_us_per_message":50,"seen_connections":2000,"seen_messages":500}`, 200, "capacity of an instance: 20,000 connections, 5,000 messages/s (calibrated on"},
		{"GET", "/v1/alerts/rules", "", 200, `"connections":20000,"messages":5000,"scale_at":14000`},
		{"POST", "/v1/scaling/capacity", `{"reset":true}`, 200, "capacity of an instance: 1,000 connections, 100 messages/s (document"},
		{"POST", "/v1/scaling/mode", `{"reset":true}`, 200, "mode observe to advise"},

		{"GET", "/v1/alerts", "", 200, `"silences":[]`},
		{"GET", "/v1/alerts?state=odd", "", 400, "state"},
		{"GET", "/v1/alerts?format=csv", "", 200, "alert,state,severity"},
		{"GET", "/v1/alerts/history", "", 200, `"entries":[]`},
		{"GET", "/v1/alerts/rules", "", 200, `"name":"connections_warning"`},
		{"POST", "/v1/alerts/silence", `{"rule":"cpu_warning","reason":"test","for":"2h"}`, 200, "silenced cpu_warning"},
		{"POST", "/v1/alerts/silence", `{"rule":"cpu_warning","for":"2h"}`, 400, "reason"},
		{"POST", "/v1/alerts/silence", `{"reason":"r","for":"99d"}`, 400, "30 days"},
		{"POST", "/v1/alerts/unsilence", `{"id":"x"}`, 404, "no such silence"},
		{"POST", "/v1/alerts/ack", `{"alert":"cpu_warning","reason":"mine"}`, 404, "no such alert"},
		{"POST", "/v1/alerts/backtest", `{"name":"cpu_warning","range":"6h"}`, 200, `"episodes":[]`},
		{"POST", "/v1/alerts/backtest", `{"name":"none"}`, 400, "rule"},
		{"PUT", "/v1/alerts/rules", `{"rules":[{"name":"","threshold":1}]}`, 400, "name"},
		{"PUT", "/v1/alerts/rules", `{"rules":[]}`, 200, "rules: 17 to 17"},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.path+" "+tt.body, func(t *testing.T) {
			route, _, _ := strings.Cut(tt.path, "?")
			access := accessOf(t, n, tt.method, route)
			for token, allowed := range map[string]bool{"": false, goodToken: false, viewerToken: access == Viewer || access == Scrape} {
				got := n.do(tt.method, tt.path, token, tt.body, asJSON...)
				if refused := got.status == http.StatusUnauthorized || got.status == http.StatusForbidden; refused == allowed {
					t.Errorf("token %.8q: got %d, want it allowed: %v", token, got.status, allowed)
				}
			}
			got := n.do(tt.method, tt.path, adminToken, tt.body, asJSON...)
			if got.status != tt.status || !strings.Contains(got.body, tt.has) {
				t.Fatalf("got %d %.600s, want %d with %q", got.status, got.body, tt.status, tt.has)
			}
			if got.status != http.StatusOK {
				got.problem(t)
			} else if strings.HasPrefix(got.header.Get("Content-Type"), "application/json") && !json.Valid([]byte(got.body)) {
				t.Errorf("not JSON: %.300s", got.body)
			}
		})
	}
	if got := n.do("POST", "/v1/scaling/simulate", viewerToken, `{"scenario":"spike","users":200,"hours":1}`, append(asJSON, "Accept", "image/svg+xml")...); !strings.HasPrefix(got.body, "<svg") {
		t.Errorf("got %.100s, want the charts", got.body)
	}
	if strings.Contains(n.log.String(), "level=ERROR") {
		t.Errorf("the log has errors:\n%s", n.log)
	}
}

// accessOf finds who may use a route.
func accessOf(t *testing.T, n *node, method, path string) Access {
	t.Helper()
	for _, r := range n.api.Routes() {
		if r.Method == method && (r.Path == path || strings.HasPrefix(r.Path, "/apis/") && strings.HasPrefix(path, "/apis/")) {
			return r.Access
		}
	}
	t.Fatalf("%s %s is no route", method, path)
	return 0
}

// TestScalingDocument: the document names every route of scaling, and its schemas
// keep words of different packages apart.
func TestScalingDocument(t *testing.T) {
	doc := document(t, newScaled(t))
	paths := doc["paths"].(map[string]any)
	for _, p := range []string{"/v1/scaling/status", "/v1/scaling/desired", "/v1/scaling/log", "/v1/scaling/plan", "/v1/scaling/simulate", "/v1/alerts",
		"/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}"} {
		if paths[p] == nil {
			t.Errorf("%s is not described", p)
		}
	}
	schemas := doc["components"].(map[string]any)["schemas"].(map[string]any)
	for _, s := range []string{"scale.Rule", "scale.Decision", "watch.Status", "Region"} {
		if schemas[s] == nil {
			t.Errorf("the schema %s is missing", s)
		}
	}
}

func TestLatencyIsMeasured(t *testing.T) {
	n := newNode(t)
	for range 5 {
		n.do("GET", "/healthz", "", "")
	}
	n.do("POST", "/v1/request", goodToken, `{"to":"bob","data":1}`, asJSON...)
	h := n.api.Latency()
	if h.Count() != 5 || h.Sum <= 0 || h.Sum > time.Minute {
		t.Errorf("got %d response times, %v in all, want 5: one that waits for an agent is none of the API's", h.Count(), h.Sum)
	}
	var r responseTimes
	for i := range relay.HistogramBuckets - 1 {
		r.observe(relay.Bound(i))
		if r.counts[i].Load() != 1 {
			t.Errorf("%v: not in bucket %d", relay.Bound(i), i)
		}
	}
	r.observe(time.Hour)
	if r.counts[relay.HistogramBuckets-1].Load() != 1 {
		t.Error("an hour is not in the last bucket")
	}
}
