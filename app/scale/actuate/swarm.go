package actuate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"agentnet/app/egress"
	"agentnet/app/scale"
)

// swarm updates a replicated service through the Docker API, by default on its
// Unix socket. The update names the version that was read; Docker refuses it when
// somebody else was faster. The leader's number is a label of the service.
type swarm struct {
	rest
	service string
}

func newSwarm(c *Config) *swarm {
	w := &swarm{service: c.Name}
	w.base, w.caFile = strings.TrimRight(c.URL, "/"), c.CAFile
	if c.URL == "" {
		w.base, w.unix = "http://docker", cmp.Or(c.Socket, "/var/run/docker.sock")
	}
	w.advice = func(status int) string {
		switch status {
		case http.StatusNotFound:
			return "There is no such service: see docker service ls."
		case http.StatusServiceUnavailable:
			return "This Docker is no manager of a swarm: give the socket of one that is."
		}
		return ""
	}
	return w
}

func (w *swarm) name() string { return "swarm" }

// swarmService keeps the specification as it came: an update replaces all of it,
// and fields that we do not know must survive.
type swarmService struct {
	ID      string
	Version struct{ Index uint64 }
	Spec    map[string]json.RawMessage
}

type swarmMode struct {
	Replicated *struct{ Replicas *uint64 }
}

func (w *swarm) read(ctx context.Context) (svc swarmService, n int, err error) {
	if err = w.do(ctx, http.MethodGet, "/services/"+url.PathEscape(w.service), "", nil, &svc); err != nil {
		if e, ok := errors.AsType[*egress.Error](err); ok && e.Status == http.StatusServiceUnavailable {
			return svc, 0, &final{err, w.advice(e.Status)}
		}
		return svc, 0, err
	}
	var mode swarmMode
	if raw := svc.Spec["Mode"]; raw != nil {
		if err := json.Unmarshal(raw, &mode); err != nil {
			return svc, 0, finally("", "read the service's mode: %w", err)
		}
	}
	if mode.Replicated == nil || mode.Replicated.Replicas == nil {
		return svc, 0, finally("A global service runs once on each machine: make it replicated.", "service %s is not replicated", w.service)
	}
	return svc, int(min(*mode.Replicated.Replicas, 1<<30)), nil
}

func (w *swarm) count(ctx context.Context) (int, error) {
	_, n, err := w.read(ctx)
	return n, err
}

func (w *swarm) set(ctx context.Context, o *scale.Order, s *steps) error {
	svc, n, err := w.read(ctx)
	if err != nil {
		return err
	}
	s.before = n
	s.say("GET service %s: %d replicas, version %d", w.service, n, svc.Version.Index)
	labels := map[string]string{}
	if raw := svc.Spec["Labels"]; raw != nil && !bytes.Equal(raw, []byte("null")) {
		if err := json.Unmarshal(raw, &labels); err != nil {
			return finally("", "read the service's labels: %w", err)
		}
	}
	if err := fenced(labels[fenceKey], o); err != nil {
		return err
	}
	if n == o.To {
		return nil
	}
	labels[fenceKey] = strconv.FormatUint(o.Fence, 10)
	if svc.Spec["Labels"], err = json.Marshal(labels); err != nil {
		return finally("", "encode the labels: %w", err)
	}
	if svc.Spec["Mode"], err = withReplicas(svc.Spec["Mode"], o.To); err != nil {
		return err
	}
	if o.DryRun {
		s.say("would update service %s to %d replicas", w.service, o.To)
		return nil
	}
	var answer struct{ Warnings []string }
	err = w.do(ctx, http.MethodPost, fmt.Sprintf("/services/%s/update?version=%d", url.PathEscape(svc.ID), svc.Version.Index), "application/json", svc.Spec, &answer)
	if e, ok := errors.AsType[*egress.Error](err); ok && strings.Contains(e.Reason, "out of sequence") {
		return fmt.Errorf("%w: %w", errConflict, err) // Docker says 500 for it
	}
	if err != nil {
		return err
	}
	s.say("updated service %s to %d replicas %s", w.service, o.To, strings.Join(answer.Warnings, "; "))
	return nil
}

// withReplicas changes the count and nothing else of the mode.
func withReplicas(raw json.RawMessage, n int) (json.RawMessage, error) {
	mode := map[string]map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &mode); err != nil {
		return nil, finally("", "read the service's mode: %w", err)
	}
	mode["Replicated"]["Replicas"] = json.RawMessage(strconv.Itoa(n))
	return json.Marshal(mode)
}
