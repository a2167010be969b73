package actuate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"agentnet/app/egress"
	"agentnet/app/scale"
)

// nomad scales a task group. The request names the index of the job that was
// read; servers that know it refuse the request when the job changed meanwhile.
// The leader's number is in the meta of the scaling event, which Nomad keeps.
type nomad struct {
	rest
	job, group, query string
}

func newNomad(c *Config) *nomad {
	w := &nomad{job: c.Name, group: c.Group}
	w.base, w.caFile = strings.TrimRight(c.URL, "/"), c.CAFile
	q := url.Values{}
	if c.Namespace != "" {
		q.Set("namespace", c.Namespace)
	}
	if c.Location != "" {
		q.Set("region", c.Location)
	}
	if len(q) > 0 {
		w.query = "?" + q.Encode()
	}
	w.header = func(context.Context) (map[string]string, error) {
		token := c.Token
		if token == "" && c.TokenFile != "" {
			var err error
			if token, err = readToken(c.TokenFile); err != nil {
				return nil, err
			}
		}
		if token == "" {
			return nil, nil
		}
		return map[string]string{"X-Nomad-Token": token}, nil
	}
	w.advice = func(status int) string {
		switch status {
		case http.StatusForbidden:
			return "Give the token a policy with read-job-scaling and scale-job in this namespace."
		case http.StatusNotFound:
			return "There is no such job in this namespace and region."
		}
		return ""
	}
	return w
}

func (w *nomad) name() string { return "nomad" }

type nomadStatus struct {
	JobStopped     bool
	JobModifyIndex uint64
	TaskGroups     map[string]struct {
		Desired int
		Events  []struct {
			Time uint64
			Meta map[string]any
		}
	}
}

func (w *nomad) path() string { return "/v1/job/" + url.PathEscape(w.job) + "/scale" + w.query }

func (w *nomad) read(ctx context.Context) (st nomadStatus, n int, fence string, err error) {
	if err = w.do(ctx, http.MethodGet, w.path(), "", nil, &st); err != nil {
		return st, 0, "", err
	}
	g, ok := st.TaskGroups[w.group]
	if !ok {
		return st, 0, "", finally("Check the name of the task group.", "job %s has no group %s", w.job, w.group)
	}
	if st.JobStopped {
		return st, 0, "", finally("Start the job first.", "job %s is stopped", w.job)
	}
	var newest uint64
	for _, e := range g.Events {
		if v, ok := e.Meta[fenceKey].(string); ok && e.Time >= newest {
			newest, fence = e.Time, v
		}
	}
	return st, g.Desired, fence, nil
}

func (w *nomad) count(ctx context.Context) (int, error) {
	_, n, _, err := w.read(ctx)
	return n, err
}

func (w *nomad) set(ctx context.Context, o *scale.Order, s *steps) error {
	st, n, fence, err := w.read(ctx)
	if err != nil {
		return err
	}
	s.before = n
	s.say("GET job %s: group %s wants %d", w.job, w.group, n)
	if err := fenced(fence, o); err != nil {
		return err
	}
	if n == o.To {
		return nil
	}
	if o.DryRun {
		s.say("would scale group %s to %d", w.group, o.To)
		return nil
	}
	body := map[string]any{"Count": o.To, "Target": map[string]string{"Group": w.group}, "Message": "agentnet: " + egress.Shorten(o.Reason, 500),
		"Meta": map[string]string{fenceKey: strconv.FormatUint(o.Fence, 10), "agentnet.order": o.ID}, "JobModifyIndex": st.JobModifyIndex}
	var answer struct{ EvalID string }
	err = w.do(ctx, http.MethodPost, w.path(), "application/json", body, &answer)
	if e, ok := errors.AsType[*egress.Error](err); ok {
		switch reason := strings.ToLower(e.Reason); {
		case strings.Contains(reason, "modify index"), strings.Contains(reason, "active deployment"):
			return fmt.Errorf("%w: %w", errConflict, err) // it passes by itself
		case e.Status == http.StatusBadRequest:
			return finally("The job's scaling block bounds the count: raise its max, or lower ours.", "%w", err)
		}
	}
	if err != nil {
		return err
	}
	s.say("scaled group %s to %d, evaluation %s", w.group, o.To, answer.EvalID)
	return nil
}
