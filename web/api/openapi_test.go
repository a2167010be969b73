package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

func document(t *testing.T, n *node) map[string]any {
	t.Helper()
	got := n.do("GET", "/openapi.json", "", "")
	var doc map[string]any
	if err := json.Unmarshal([]byte(got.body), &doc); err != nil || got.status != 200 {
		t.Fatalf("got %d: %v", got.status, err)
	}
	return doc
}

func TestDocumentHasEveryRouteAndNoOther(t *testing.T) {
	n := newNode(t)
	app := fiber.New()
	n.api.Register(app)
	var registered []string
	for _, r := range app.GetRoutes(true) {
		if r.Method != fiber.MethodHead {
			registered = append(registered, r.Method+" "+r.Path)
		}
	}
	var described []string
	for path, item := range document(t, n)["paths"].(map[string]any) {
		for method := range item.(map[string]any) {
			described = append(described, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(registered)
	slices.Sort(described)
	if !slices.Equal(registered, described) {
		t.Errorf("got described %v, want the registered %v", described, registered)
	}
	// The contract's own list, as far as one node goes.
	for _, want := range []string{"POST /v1/send", "POST /v1/request", "POST /v1/publish", "GET /v1/agents", "GET /v1/channels",
		"GET /v1/regions", "GET /v1/nodes", "GET /v1/stats", "GET /healthz", "GET /readyz", "GET /metrics", "GET /openapi.json"} {
		if !slices.Contains(described, want) {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestDocumentIsWellFormed(t *testing.T) {
	n := newNode(t)
	doc := document(t, n)
	if doc["openapi"] != "3.1.0" || doc["info"].(map[string]any)["version"] != "1.2.3" {
		t.Errorf("got %v and %v", doc["openapi"], doc["info"])
	}
	if got := doc["servers"].([]any)[0].(map[string]any)["url"]; got != "https://example.org/x/" {
		t.Errorf("got server %v", got)
	}
	ids := map[string]bool{}
	for path, item := range doc["paths"].(map[string]any) {
		for method, raw := range item.(map[string]any) {
			op := raw.(map[string]any)
			id, _ := op["operationId"].(string)
			if id == "" || ids[id] || op["summary"] == "" {
				t.Errorf("%s %s: got operationId %q, want one of its own and a summary", method, path, id)
			}
			ids[id] = true
			responses := op["responses"].(map[string]any)
			if responses["200"] == nil {
				t.Errorf("%s: no 200", id)
			}
			for status, r := range responses {
				if !regexp.MustCompile(`^[2-5]\d\d$`).MatchString(status) || r.(map[string]any)["description"] == "" {
					t.Errorf("%s: bad response %s", id, status)
				}
			}
			secured := len(op["security"].([]any)) > 0
			if secured != (responses["401"] != nil) {
				t.Errorf("%s: security and 401 do not go together", id)
			}
		}
	}
	schemas := doc["components"].(map[string]any)["schemas"].(map[string]any)
	used := map[string]bool{}
	walk(doc, func(m map[string]any) {
		if ref, ok := m["$ref"].(string); ok {
			name, ok := strings.CutPrefix(ref, "#/components/schemas/")
			if !ok || schemas[name] == nil {
				t.Errorf("%s leads nowhere", ref)
			}
			used[name] = true
		}
		if kind, ok := m["type"].(string); ok && m["in"] == nil && m["scheme"] == nil {
			if !slices.Contains([]string{"object", "array", "string", "integer", "number", "boolean"}, kind) {
				t.Errorf("%q is not a type of JSON Schema", kind)
			}
			if kind == "array" && m["items"] == nil {
				t.Error("an array without items")
			}
		}
	})
	for name := range schemas {
		if !used[name] {
			t.Errorf("schema %s is not used", name)
		}
	}
}

// walk calls f for every object of a document that is not a map of properties.
func walk(v any, f func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		f(v)
		for key, child := range v {
			if key == "properties" {
				for _, p := range child.(map[string]any) {
					walk(p, f)
				}
				continue
			}
			walk(child, f)
		}
	case []any:
		for _, child := range v {
			walk(child, f)
		}
	}
}

// TestAnswersFitTheirSchemas asks every route and holds its answer against the
// schema that the document gives it.
func TestAnswersFitTheirSchemas(t *testing.T) {
	n := newNode(t)
	n.relay.answer = three
	doc := document(t, n)
	schemas := doc["components"].(map[string]any)["schemas"].(map[string]any)
	for _, route := range n.api.Routes() {
		if route.Reply == nil {
			continue
		}
		got := n.do(route.Method, route.Path, adminToken, bodies[route.Path])
		var answer any
		if err := json.Unmarshal([]byte(got.body), &answer); err != nil || got.status != 200 {
			t.Fatalf("%s: got %d %s", route.Name, got.status, got.body)
		}
		if err := fits(schemas, schemas[reflect.TypeOf(route.Reply).Name()].(map[string]any), answer); err != nil {
			t.Errorf("%s: %v: %s", route.Name, err, got.body)
		}
	}
	bad := n.do("GET", "/v1/agents?limit=x", goodToken, "")
	var problem any
	json.Unmarshal([]byte(bad.body), &problem)
	if err := fits(schemas, schemas["Problem"].(map[string]any), problem); err != nil {
		t.Errorf("problem: %v", err)
	}
}

// fits is JSON Schema as far as our documents use it. Members that the schema
// does not have are faults.
func fits(schemas, schema map[string]any, v any) error {
	if ref, ok := schema["$ref"].(string); ok {
		return fits(schemas, schemas[strings.TrimPrefix(ref, "#/components/schemas/")].(map[string]any), v)
	}
	wrong := func() error { return fmt.Errorf("%v is not a %v", v, schema["type"]) }
	switch schema["type"] {
	case nil:
		return nil
	case "string":
		s, ok := v.(string)
		if !ok {
			return wrong()
		}
		if words, ok := schema["enum"].([]any); ok && s != "" && !slices.Contains(words, any(s)) {
			return fmt.Errorf("%q is not one of %v", s, words)
		}
	case "integer":
		if f, ok := v.(float64); !ok || f != float64(int64(f)) {
			return wrong()
		}
	case "number":
		if _, ok := v.(float64); !ok {
			return wrong()
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			return wrong()
		}
	case "array":
		list, ok := v.([]any)
		if !ok {
			return wrong()
		}
		for _, item := range list {
			if err := fits(schemas, schema["items"].(map[string]any), item); err != nil {
				return err
			}
		}
	case "object":
		return fitsObject(schemas, schema, v)
	}
	return nil
}

func fitsObject(schemas, schema map[string]any, v any) error {
	object, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%v is not an object", v)
	}
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, given := object[name.(string)]; !given {
			return fmt.Errorf("%v is missing", name)
		}
	}
	properties, _ := schema["properties"].(map[string]any)
	for name, child := range object {
		property, known := properties[name].(map[string]any)
		if !known {
			if property, known = schema["additionalProperties"].(map[string]any); !known {
				return fmt.Errorf("%s is not in the schema", name)
			}
		}
		if err := fits(schemas, property, child); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// TestBodySchemasAreWhatIsRead sends a body with every field of its schema, one
// wrong at a time: a field that the decoder does not read would be let through.
func TestBodySchemasAreWhatIsRead(t *testing.T) {
	n := newNode(t)
	for _, route := range n.api.Routes() {
		if route.Body == nil {
			continue
		}
		kind := reflect.TypeOf(route.Body)
		for i := range kind.NumField() {
			name, _, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ",")
			if name == "data" { // may be anything
				continue
			}
			body := strings.TrimSuffix(bodies[route.Path], "}")
			body = strings.Replace(body, `,"data":1`, "", 1) // bytes and data exclude each other
			if strings.Contains(body, `"`+name+`":`) {
				body = "{"
			} else {
				body += ","
			}
			got := n.do(route.Method, route.Path, goodToken, body+`"`+name+`":[true]}`)
			if got.status != 400 || !strings.Contains(got.problem(t).Detail, name) {
				t.Errorf("%s.%s of a wrong type: got %d %s, want 400 that names it", route.Name, name, got.status, got.body)
			}
		}
	}
	var zero wire.Limits
	if n.api.cfg.Limits == zero {
		t.Error("no limits")
	}
}
