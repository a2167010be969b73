package actuate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"agentnet/app/scale"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A plane is a fake control plane, written from the public description of the
// real one: it checks every call as that does.
type plane struct {
	t  *testing.T
	mu sync.Mutex

	count   int    // instances asked for
	fence   string // as it notes it
	version int    // for checks against concurrent writers
	costs   map[string]string
	writes  int
	calls   []string

	refuse []int  // statuses of the next calls, before anything is looked at
	steal  int    // writers that are faster, so many times
	note   string // anything else that a fake must remember
}

func (p *plane) locked(f func()) { p.mu.Lock(); defer p.mu.Unlock(); f() }

// handler wraps a fake's own handler.
func (p *plane) handler(auth func(*http.Request) bool, f func(w http.ResponseWriter, r *http.Request, body []byte)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.calls = append(p.calls, r.Method+" "+r.URL.Path)
		body, _ := io.ReadAll(r.Body)
		if len(p.refuse) > 0 {
			status := p.refuse[0]
			p.refuse = p.refuse[1:]
			http.Error(w, "refused as told", status)
			return
		}
		if !auth(r) {
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		f(w, r, body)
	})
}

// stolen reports that somebody else wrote just before.
func (p *plane) stolen() bool {
	if p.steal == 0 {
		return false
	}
	p.steal--
	p.version++
	return true
}

func (p *plane) serve(h http.Handler) string {
	srv := httptest.NewServer(h)
	p.t.Cleanup(srv.Close)
	return srv.URL
}

func answer(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

func bearer(token string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer "+token }
}

const canary = "canary-token-0123456789"

// kubernetesPlane is the part of the Kubernetes API that deals with the scale
// subresource: merge patches, resourceVersion as a precondition, dryRun=All.
func kubernetesPlane(p *plane) Config {
	token := filepath.Join(p.t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(canary+"\n"), 0o600); err != nil {
		p.t.Fatal(err)
	}
	const root = "/apis/apps/v1/namespaces/prod/deployments/relay"
	object := func(replicas int) map[string]any {
		return map[string]any{"metadata": map[string]any{"name": "relay", "resourceVersion": strconv.Itoa(p.version), "annotations": map[string]string{fenceKey: p.fence}},
			"spec": map[string]any{"replicas": replicas}}
	}
	url := p.serve(p.handler(bearer(canary), func(w http.ResponseWriter, r *http.Request, body []byte) {
		dry := r.URL.Query().Get("dryRun") == "All"
		var patch struct {
			Metadata struct {
				ResourceVersion string
				Annotations     map[string]string
			}
			Spec struct{ Replicas *int }
		}
		if r.Method == "PATCH" {
			if ct := r.Header.Get("Content-Type"); ct != "application/merge-patch+json" {
				http.Error(w, "415: "+ct, http.StatusUnsupportedMediaType)
				return
			}
			if err := json.Unmarshal(body, &patch); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			if v := patch.Metadata.ResourceVersion; !strings.Contains(r.URL.Path, "/pods/") && (v != strconv.Itoa(p.version) || p.stolen()) {
				http.Error(w, `{"kind":"Status","reason":"Conflict","message":"the object has been modified"}`, http.StatusConflict)
				return
			}
		}
		switch {
		case r.Method == "GET" && r.URL.Path == root:
			answer(w, object(p.count))
		case r.Method == "PATCH" && r.URL.Path == root:
			if patch.Spec.Replicas != nil {
				p.t.Error("the count was patched past the scale subresource")
			}
			if !dry {
				p.fence = patch.Metadata.Annotations[fenceKey]
				p.version++
			}
			answer(w, object(p.count))
		case r.Method == "PATCH" && r.URL.Path == root+"/scale":
			if patch.Spec.Replicas == nil || *patch.Spec.Replicas < 0 {
				http.Error(w, "Invalid", http.StatusUnprocessableEntity)
				return
			}
			if !dry {
				p.count = *patch.Spec.Replicas
				p.version++
				p.writes++
			}
			answer(w, object(*patch.Spec.Replicas))
		case r.Method == "PATCH" && strings.HasPrefix(r.URL.Path, "/api/v1/namespaces/prod/pods/"):
			pod := strings.TrimPrefix(r.URL.Path, "/api/v1/namespaces/prod/pods/")
			if pod == "gone" {
				http.NotFound(w, r)
				return
			}
			if !dry {
				p.costs[pod] = patch.Metadata.Annotations["controller.kubernetes.io/pod-deletion-cost"]
			}
			answer(w, map[string]any{})
		default:
			http.NotFound(w, r)
		}
	}))
	return Config{Kind: "kubernetes", URL: url, TokenFile: token, Name: "relay", Namespace: "prod"}
}

// swarmPlane is the service part of the Docker Engine API on its Unix socket: an
// update replaces the whole specification and names the version that was read.
func swarmPlane(p *plane) Config {
	dir, err := os.MkdirTemp("", "swarm") // a path that is short enough for a socket
	if err != nil {
		p.t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		p.t.Fatal(err)
	}
	srv := &http.Server{Handler: p.handler(func(*http.Request) bool { return true }, func(w http.ResponseWriter, r *http.Request, body []byte) {
		switch {
		case r.Method == "GET" && r.URL.Path == "/services/relay":
			labels := map[string]string{"keep": "me"}
			if p.fence != "" {
				labels[fenceKey] = p.fence
			}
			answer(w, map[string]any{"ID": "svc1", "Version": map[string]any{"Index": p.version}, "Spec": map[string]any{"Name": "relay", "Labels": labels,
				"TaskTemplate": map[string]any{"ContainerSpec": map[string]any{"Image": "relay:1", "Unknown": 18446744073709551615.0}},
				"Mode":         map[string]any{"Replicated": map[string]any{"Replicas": p.count}}}})
		case r.Method == "POST" && r.URL.Path == "/services/svc1/update":
			if r.URL.Query().Get("version") != strconv.Itoa(p.version) || p.stolen() {
				w.WriteHeader(http.StatusInternalServerError)
				answer(w, map[string]string{"message": "rpc error: code = Unknown desc = update out of sequence"})
				return
			}
			var spec struct {
				Name         string
				Labels       map[string]string
				TaskTemplate struct{ ContainerSpec struct{ Image string } }
				Mode         struct{ Replicated struct{ Replicas int } }
			}
			if err := json.Unmarshal(body, &spec); err != nil || spec.Name != "relay" || spec.TaskTemplate.ContainerSpec.Image != "relay:1" || spec.Labels["keep"] != "me" {
				http.Error(w, fmt.Sprintf(`{"message":"the specification lost something: %v %+v"}`, err, spec), http.StatusBadRequest)
				return
			}
			p.count, p.fence = spec.Mode.Replicated.Replicas, spec.Labels[fenceKey]
			p.version++
			p.writes++
			answer(w, map[string]any{"Warnings": nil})
		default:
			http.NotFound(w, r)
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	p.t.Cleanup(func() { _ = srv.Close(); <-done; _ = os.RemoveAll(dir) })
	return Config{Kind: "swarm", Name: "relay", Socket: path}
}

// nomadPlane is Nomad's scale endpoint.
func nomadPlane(p *plane) Config {
	type event struct {
		Time uint64
		Meta map[string]any
	}
	var events []event
	url := p.serve(p.handler(func(r *http.Request) bool { return r.Header.Get("X-Nomad-Token") == canary }, func(w http.ResponseWriter, r *http.Request, body []byte) {
		if r.URL.Path != "/v1/job/relay/scale" || r.URL.Query().Get("namespace") != "prod" {
			http.Error(w, "job not found", http.StatusNotFound)
			return
		}
		if r.Method == "GET" {
			shown := events
			if p.fence != "" {
				shown = append([]event{{Time: 1, Meta: map[string]any{fenceKey: p.fence}}}, events...)
			}
			answer(w, map[string]any{"JobID": "relay", "JobModifyIndex": p.version, "JobStopped": false,
				"TaskGroups": map[string]any{"web": map[string]any{"Desired": p.count, "Running": p.count, "Events": shown}}})
			return
		}
		var req struct {
			Count          *int
			Target         map[string]string
			Message        string
			Meta           map[string]any
			JobModifyIndex int
		}
		if err := json.Unmarshal(body, &req); err != nil || req.Count == nil || req.Target["Group"] != "web" {
			http.Error(w, fmt.Sprintf("bad request: %v", err), http.StatusBadRequest)
			return
		}
		if req.JobModifyIndex != p.version || p.stolen() {
			http.Error(w, fmt.Sprintf("Enforcing job modify index %d: job exists with conflicting job modify index: %d", req.JobModifyIndex, p.version), http.StatusInternalServerError)
			return
		}
		if *req.Count > 50 {
			http.Error(w, "group count was greater than scaling policy maximum: 51 > 50", http.StatusBadRequest)
			return
		}
		p.count = *req.Count
		p.fence, _ = req.Meta[fenceKey].(string)
		p.version++
		p.writes++
		events = append(events, event{Time: uint64(100 + p.version), Meta: req.Meta})
		answer(w, map[string]any{"EvalID": "e-1", "JobModifyIndex": p.version})
	}))
	return Config{Kind: "nomad", URL: url, Token: canary, Name: "relay", Group: "web", Namespace: "prod"}
}

// cloudRunPlane is the service part of the Cloud Run Admin API v2, with its long
// operations, and the metadata server.
func cloudRunPlane(p *plane) Config {
	meta := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Metadata-Flavor") != "Google" || r.URL.Path != "/computeMetadata/v1/instance/service-accounts/default/token" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		answer(w, map[string]any{"access_token": canary, "expires_in": 3599, "token_type": "Bearer"})
	}))
	p.t.Cleanup(meta.Close)
	const service = "projects/p1/locations/europe-west1/services/relay"
	url := p.serve(p.handler(bearer(canary), func(w http.ResponseWriter, r *http.Request, body []byte) {
		switch {
		case r.Method == "GET" && r.URL.Path == "/v2/"+service:
			annotations := map[string]string{"keep": "me"}
			if p.fence != "" {
				annotations[cloudFence] = p.fence
			}
			answer(w, map[string]any{"name": service, "etag": fmt.Sprintf("\"%d\"", p.version), "annotations": annotations, "scaling": map[string]any{"minInstanceCount": p.count}})
		case r.Method == "PATCH" && r.URL.Path == "/v2/"+service:
			var svc struct {
				Etag        string
				Annotations map[string]string
				Scaling     struct{ MinInstanceCount, MaxInstanceCount int }
			}
			if err := json.Unmarshal(body, &svc); err != nil || r.URL.Query().Get("updateMask") != "annotations,scaling.minInstanceCount,scaling.maxInstanceCount" || svc.Annotations["keep"] != "me" {
				http.Error(w, fmt.Sprintf("bad update %v %s %+v", err, r.URL.RawQuery, svc), http.StatusBadRequest)
				return
			}
			if svc.Etag != fmt.Sprintf("\"%d\"", p.version) || p.stolen() {
				w.WriteHeader(http.StatusConflict)
				answer(w, map[string]any{"error": map[string]any{"code": 409, "status": "ABORTED", "message": "Conflict for resource"}})
				return
			}
			if svc.Scaling.MaxInstanceCount < svc.Scaling.MinInstanceCount {
				http.Error(w, "maxInstanceCount is below minInstanceCount", http.StatusBadRequest)
				return
			}
			if r.URL.Query().Get("validateOnly") != "true" {
				p.count, p.fence = svc.Scaling.MinInstanceCount, svc.Annotations[cloudFence]
				p.version++
				p.writes++
			}
			answer(w, map[string]any{"name": "projects/p1/locations/europe-west1/operations/op1", "done": false})
		case r.Method == "GET" && strings.HasSuffix(r.URL.Path, "/operations/op1"):
			answer(w, map[string]any{"name": "projects/p1/locations/europe-west1/operations/op1", "done": true, "response": map[string]any{}})
		default:
			http.NotFound(w, r)
		}
	}))
	return Config{Kind: "cloudrun", URL: url, Metadata: meta.URL, Name: "relay", Project: "p1", Location: "europe-west1", Max: 20}
}

// composePlane is a docker that keeps its count in a file.
func composePlane(p *plane) Config {
	dir := p.t.TempDir()
	script := `#!/bin/sh
state="` + dir + `/count"
[ "$1" = compose ] && [ "$2" = --file ] && [ "$3" = c.yml ] && [ "$4" = --project-name ] && [ "$5" = prod ] || { echo "bad arguments: $*"; exit 64; }
shift 5
case "$1" in
ps) i=0; n=$(cat "$state"); while [ $i -lt $n ]; do echo "id$i"; i=$((i+1)); done ;;
up) for a in "$@"; do case "$a" in relay=*) echo "${a#relay=}" > "$state"; echo "scaled to ${a#relay=}";; esac; done ;;
*) exit 64 ;;
esac
`
	docker := filepath.Join(dir, "docker")
	if err := errors.Join(os.WriteFile(docker, []byte(script), 0o755), os.WriteFile(filepath.Join(dir, "count"), []byte(strconv.Itoa(p.count)), 0o644)); err != nil {
		p.t.Fatal(err)
	}
	p.note = filepath.Join(dir, "count")
	return Config{Kind: "compose", Docker: docker, File: "c.yml", Project: "prod", Name: "relay"}
}

// now is the count that the control plane holds.
func (p *plane) now() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if strings.HasSuffix(p.note, "/count") {
		raw, err := os.ReadFile(p.note)
		if err != nil {
			p.t.Fatal(err)
		}
		n, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
		return n
	}
	return p.count
}

// planes are the fakes of all control planes that hold a count.
var planes = map[string]struct {
	make      func(*plane) Config
	http      bool // speaks HTTP and checks who asks, notes the leader, checks versions
	anonymous bool // asks nobody who they are
}{
	"kubernetes": {kubernetesPlane, true, false},
	"swarm":      {swarmPlane, true, true},
	"nomad":      {nomadPlane, true, false},
	"cloudrun":   {cloudRunPlane, true, false},
	"compose":    {composePlane, false, true},
}

// eachPlane runs f with every control plane that holds 3 instances, and a Keeper
// for it.
func eachPlane(t *testing.T, f func(t *testing.T, p *plane, k *Keeper, speaksHTTP bool)) {
	for name, fake := range planes {
		t.Run(name, func(t *testing.T) {
			p := &plane{t: t, count: 3, version: 7, costs: map[string]string{}}
			c := fake.make(p)
			c.Limits.Pause = time.Nanosecond
			k, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			k.backoff.First, k.backoff.Most = time.Millisecond, 5*time.Millisecond
			if w, ok := k.way.(*cloudRun); ok {
				w.poll = time.Millisecond
			}
			f(t, p, k, fake.http)
		})
	}
}

func order(id string, fence uint64, from, to int) scale.Order {
	return scale.Order{ID: id, Fence: fence, From: from, To: to, At: time.Unix(1_790_000_000, 0).UTC(), Reason: "250 connections an instance is above 200",
		Victims: []string{"relay-b", "relay-a"}, Costs: map[string]int{"relay-a": 12, "relay-b": 3, "relay-c": 250, "gone": 0}}
}

func act(t *testing.T, k *Keeper, o scale.Order) (scale.Action, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a, err := k.Act(ctx, o)
	if (err != nil) != (a.Fault != "") {
		t.Errorf("error %v, but fault %q", err, a.Fault)
	}
	if raw, _ := json.Marshal(a); strings.Contains(string(raw), canary) {
		t.Errorf("a token is told: %s", raw)
	}
	return a, err
}
