package actuate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"agentnet/app/egress"
	"agentnet/app/scale"
)

// kubernetes sets the scale subresource of a Deployment or StatefulSet, with the
// rights of the pod's service account: get and patch on the resource and on its
// scale, and patch on pods for deletion costs. The leader's number is kept as an
// annotation; both writes name the resourceVersion that was read, so that of two
// leaders one is refused by the API server.
type kubernetes struct {
	rest
	namespace, resource, object string
}

// accountDir is where pods find their service account.
const accountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// The media type of patches, and the annotation by which ReplicaSets choose whom
// to end first.
const (
	mergePatch   = "application/merge-patch+json"
	deletionCost = "controller.kubernetes.io/pod-deletion-cost"
	// maxCosts bounds the pods that are written to for one order.
	maxCosts = 200
)

func newKubernetes(c *Config) *kubernetes {
	base := strings.TrimRight(c.URL, "/")
	if base == "" {
		host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
		base = "https://" + net.JoinHostPort(cmp.Or(host, "kubernetes.default.svc"), cmp.Or(port, "443"))
	}
	k := &kubernetes{resource: cmp.Or(c.Resource, "deployments"), object: c.Name, namespace: c.Namespace}
	k.base, k.caFile = base, c.CAFile
	if k.caFile == "" && c.URL == "" {
		k.caFile = filepath.Join(accountDir, "ca.crt")
	}
	file, token := cmp.Or(c.TokenFile, filepath.Join(accountDir, "token")), c.Token
	k.header = func(context.Context) (map[string]string, error) {
		if token != "" {
			return map[string]string{"Authorization": "Bearer " + token}, nil
		}
		t, err := readToken(file)
		return map[string]string{"Authorization": "Bearer " + t}, err
	}
	k.advice = k.why
	return k
}

func (k *kubernetes) name() string { return "kubernetes" }

// why explains a refusal of the API server.
func (k *kubernetes) why(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "The token is not valid: is the service account mounted (automountServiceAccountToken)?"
	case http.StatusForbidden:
		return fmt.Sprintf("Give the service account a Role: apiGroups [apps], resources [%s, %s/scale], verbs [get, patch]; and apiGroups [\"\"], resources [pods], verbs [patch].", k.resource, k.resource)
	case http.StatusNotFound:
		return fmt.Sprintf("There is no %s %s in this namespace: check name, resource and namespace.", strings.TrimSuffix(k.resource, "s"), k.object)
	}
	return ""
}

// place finds the namespace: that of the pod when none was given.
func (k *kubernetes) place() string {
	if k.namespace != "" {
		return k.namespace
	}
	if raw, err := os.ReadFile(filepath.Join(accountDir, "namespace")); err == nil && len(raw) > 0 {
		return strings.TrimSpace(string(raw))
	}
	return "default"
}

func (k *kubernetes) path(sub string) string {
	return "/apis/apps/v1/namespaces/" + url.PathEscape(k.place()) + "/" + k.resource + "/" + url.PathEscape(k.object) + sub
}

// kubeMeta is what we read and write of an object's metadata.
type kubeMeta struct {
	ResourceVersion string            `json:"resourceVersion,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
}

type kubeObject struct {
	Metadata kubeMeta `json:"metadata"`
	Spec     *struct {
		Replicas *int `json:"replicas,omitempty"`
	} `json:"spec,omitempty"`
}

func (o *kubeObject) replicas() int {
	if o.Spec == nil || o.Spec.Replicas == nil {
		return 1 // the default of the API
	}
	return *o.Spec.Replicas
}

func (k *kubernetes) read(ctx context.Context) (o kubeObject, err error) {
	return o, k.do(ctx, http.MethodGet, k.path(""), "", nil, &o)
}

func (k *kubernetes) count(ctx context.Context) (int, error) {
	o, err := k.read(ctx)
	return o.replicas(), err
}

func (k *kubernetes) set(ctx context.Context, o *scale.Order, s *steps) error {
	now, err := k.read(ctx)
	if err != nil {
		return err
	}
	s.before = now.replicas()
	s.say("GET %s/%s: %d replicas", k.resource, k.object, s.before)
	if err := fenced(now.Metadata.Annotations[fenceKey], o); err != nil {
		return err
	}
	if s.before == o.To {
		return nil
	}
	if o.To < s.before {
		k.costs(ctx, o, s)
	}
	dry := ""
	if o.DryRun {
		dry = "?dryRun=All" // the API server checks everything and stores nothing
	}
	noted := kubeObject{Metadata: kubeMeta{ResourceVersion: now.Metadata.ResourceVersion, Annotations: map[string]string{fenceKey: strconv.FormatUint(o.Fence, 10)}}}
	var after kubeObject
	if err := k.do(ctx, http.MethodPatch, k.path(dry), mergePatch, noted, &after); err != nil {
		return fmt.Errorf("note the leader: %w", err)
	}
	version := after.Metadata.ResourceVersion
	if o.DryRun {
		version = now.Metadata.ResourceVersion
	}
	to := kubeObject{Metadata: kubeMeta{ResourceVersion: version}, Spec: &struct {
		Replicas *int `json:"replicas,omitempty"`
	}{&o.To}}
	if err := k.do(ctx, http.MethodPatch, k.path("/scale"+dry), mergePatch, to, &after); err != nil {
		return fmt.Errorf("patch the scale: %w", err)
	}
	if got := after.replicas(); got != o.To {
		return finally("Does another controller, such as an HPA, hold the count? Use it or us, not both.", "asked for %d replicas, the API server answers %d", o.To, got)
	}
	s.say("PATCH %s/%s/scale%s: %d replicas", k.resource, k.object, dry, o.To)
	return nil
}

// costs tells the ReplicaSet whom to end: the victims first. It is advice: what
// fails here is noted and stops nothing.
func (k *kubernetes) costs(ctx context.Context, o *scale.Order, s *steps) {
	if k.resource != "deployments" {
		s.say("a StatefulSet ends its highest ordinals: victims cannot be chosen")
		return
	}
	costs := make(map[string]int, len(o.Costs))
	for pod, cost := range o.Costs {
		costs[pod] = min(max(cost, 0), 1<<30)
	}
	for i, pod := range o.Victims {
		costs[pod] = i - len(o.Victims) // below all others, the cheapest first
	}
	pods := make([]string, 0, len(costs))
	for pod := range costs {
		pods = append(pods, pod)
	}
	slices.SortFunc(pods, func(a, b string) int { return cmp.Or(cmp.Compare(costs[a], costs[b]), cmp.Compare(a, b)) })
	done := 0
	for _, pod := range pods[:min(len(pods), maxCosts)] {
		path := "/api/v1/namespaces/" + url.PathEscape(k.place()) + "/pods/" + url.PathEscape(pod)
		if o.DryRun {
			path += "?dryRun=All"
		}
		patch := kubeObject{Metadata: kubeMeta{Annotations: map[string]string{deletionCost: strconv.Itoa(costs[pod])}}}
		err := k.do(ctx, http.MethodPatch, path, mergePatch, patch, nil)
		if e, ok := errors.AsType[*egress.Error](err); ok && e.Status == http.StatusNotFound {
			continue // the node has another name than its pod, or is gone
		}
		if err != nil {
			s.say("deletion cost of %s: %v", pod, err)
			return
		}
		done++
	}
	s.say("set the deletion cost of %d pods, victims %v", done, o.Victims)
}
