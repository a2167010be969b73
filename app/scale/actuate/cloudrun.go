package actuate

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"agentnet/app/egress"
	"agentnet/app/scale"
)

// cloudRun sets the service-level bounds of instances in the Cloud Run Admin API
// v2, which makes no new revision: the lower bound is the count, so that as many
// run; the upper bound is Max, and at least the count. The update carries the etag
// that was read. The token is that of the instance, from the metadata server.
type cloudRun struct {
	rest
	service string // projects/P/locations/L/services/S
	max     int
	tokens  metadataToken
	poll    time.Duration // between two looks at a long-running operation
}

const (
	cloudRunAPI = "https://run.googleapis.com"
	// cloudFence is fenceKey in the characters that annotations of Cloud Run allow.
	cloudFence = "agentnet-fence"
)

func newCloudRun(c *Config) *cloudRun {
	w := &cloudRun{max: c.Max, poll: time.Second, service: "projects/" + url.PathEscape(c.Project) + "/locations/" + url.PathEscape(c.Location) + "/services/" + url.PathEscape(c.Name)}
	w.base = cmp.Or(strings.TrimRight(c.URL, "/"), cloudRunAPI)
	w.tokens.url = cmp.Or(strings.TrimRight(c.Metadata, "/"), "http://metadata.google.internal")
	w.header = func(ctx context.Context) (map[string]string, error) {
		token := c.Token
		if token == "" {
			var err error
			if token, err = w.tokens.get(ctx); err != nil {
				return nil, err
			}
		}
		return map[string]string{"Authorization": "Bearer " + token}, nil
	}
	w.advice = func(status int) string {
		switch status {
		case http.StatusUnauthorized, http.StatusForbidden:
			return "Give the service account of this instance the role roles/run.developer on the service."
		case http.StatusNotFound:
			return "There is no such service: check project, location and name."
		}
		return ""
	}
	return w
}

func (w *cloudRun) name() string { return "cloudrun" }

type cloudScaling struct {
	Min *int `json:"minInstanceCount,omitempty"`
	Max *int `json:"maxInstanceCount,omitempty"`
}

type cloudService struct {
	Name        string            `json:"name,omitempty"`
	Etag        string            `json:"etag,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Scaling     cloudScaling      `json:"scaling"`
}

func (w *cloudRun) read(ctx context.Context) (svc cloudService, n int, err error) {
	if err = w.do(ctx, http.MethodGet, "/v2/"+w.service, "", nil, &svc); err != nil {
		return svc, 0, err
	}
	if svc.Scaling.Min != nil {
		n = *svc.Scaling.Min
	}
	return svc, n, nil
}

func (w *cloudRun) count(ctx context.Context) (int, error) {
	_, n, err := w.read(ctx)
	return n, err
}

func (w *cloudRun) set(ctx context.Context, o *scale.Order, s *steps) error {
	svc, n, err := w.read(ctx)
	if err != nil {
		return err
	}
	s.before = n
	s.say("GET %s: at least %d instances", w.service, n)
	if err := fenced(svc.Annotations[cloudFence], o); err != nil {
		return err
	}
	if n == o.To {
		return nil
	}
	next := cloudService{Name: w.service, Etag: svc.Etag, Annotations: maps.Clone(svc.Annotations), Scaling: cloudScaling{Min: &o.To}}
	if next.Annotations == nil {
		next.Annotations = map[string]string{}
	}
	next.Annotations[cloudFence] = strconv.FormatUint(o.Fence, 10)
	mask := "annotations,scaling.minInstanceCount"
	if w.max > 0 {
		most := max(w.max, o.To)
		next.Scaling.Max = &most
		mask += ",scaling.maxInstanceCount"
	}
	path := "/v2/" + w.service + "?updateMask=" + url.QueryEscape(mask)
	if o.DryRun {
		path += "&validateOnly=true"
	}
	var op cloudOperation
	if err := w.do(ctx, http.MethodPatch, path, "application/json", next, &op); err != nil {
		return err
	}
	s.say("PATCH %s: at least %d instances, operation %s", w.service, o.To, op.Name)
	if o.DryRun {
		return nil
	}
	return w.await(ctx, op, s)
}

type cloudOperation struct {
	Name  string `json:"name"`
	Done  bool   `json:"done"`
	Error *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
	Response json.RawMessage `json:"response"`
}

// await waits for a long-running operation.
func (w *cloudRun) await(ctx context.Context, op cloudOperation, s *steps) error {
	for !op.Done {
		if op.Name == "" || strings.Contains(op.Name, "..") {
			return finally("", "the answer names no operation")
		}
		if err := sleep(ctx, w.poll); err != nil {
			return finally("It may still succeed: see the operation in the console.", "operation %s is not done in time", op.Name)
		}
		next := cloudOperation{}
		if err := w.do(ctx, http.MethodGet, "/v2/"+op.Name, "", nil, &next); err != nil {
			if !again(err) {
				return err
			}
			s.say("look at the operation: %v", err)
			continue
		}
		op = next
	}
	if op.Error == nil {
		return nil
	}
	const aborted = 10 // of google.rpc.Code: somebody else wrote
	if op.Error.Code == aborted {
		return fmt.Errorf("%w: %s", errConflict, egress.Shorten(op.Error.Message, 300))
	}
	return finally("", "the operation failed with code %d: %s", op.Error.Code, egress.Shorten(op.Error.Message, 300))
}

// metadataToken gets the access token of the instance, and keeps it while it lasts.
type metadataToken struct {
	url string

	mu    sync.Mutex
	token string
	until time.Time
}

func (m *metadataToken) get(ctx context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.token != "" && time.Now().Before(m.until) {
		return m.token, nil
	}
	client := egress.New(egress.Config{Rules: egress.Rules{All: true}, Timeout: 5 * time.Second})
	defer client.Close()
	reply, err := client.Call(ctx, egress.Request{Method: http.MethodGet, URL: m.url + "/computeMetadata/v1/instance/service-accounts/default/token",
		Header: map[string]string{"Metadata-Flavor": "Google"}})
	if err != nil {
		return "", fmt.Errorf("token of the metadata server: %w", err)
	}
	var t struct {
		Token string `json:"access_token"`
		Lasts int    `json:"expires_in"`
	}
	if err := json.Unmarshal(reply.Body, &t); err != nil || t.Token == "" {
		return "", finally("Does this run on Google Cloud? Else give a token.", "the metadata server answers no token")
	}
	m.token, m.until = t.Token, time.Now().Add(time.Duration(t.Lasts)*time.Second-time.Minute)
	return m.token, nil
}
