package api

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// object is a part of the OpenAPI document. Its keys are written in order, so
// that the document is the same each time.
type object = map[string]any

func (a *API) openapi(c *fiber.Ctx, _ *relay.Identity) error {
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Send(a.document)
}

// openAPI builds the document from the table of routes and the Go types that
// they name.
func (a *API) openAPI() ([]byte, error) {
	schemas := &schemas{limits: a.cfg.Limits, named: object{}}
	paths := object{}
	for _, route := range a.routes {
		operation, err := schemas.operation(route)
		if err != nil {
			return nil, fmt.Errorf("api: describe %s %s: %w", route.Method, route.Path, err)
		}
		path := pathParameter.ReplaceAllString(route.Path, "{$1}")
		item, _ := paths[path].(object)
		if item == nil {
			item = object{}
			paths[path] = item
		}
		item[strings.ToLower(route.Method)] = operation
	}
	server := a.cfg.PublicURL
	if server == "" {
		server = a.cfg.Base + "/"
	}
	version := a.cfg.Version
	if version == "" {
		version = "dev"
	}
	return json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Agentnet relay", "version": version,
			"summary":     "Messages between agents, without a socket.",
			"description": "The same names as in the WebSocket protocol. Errors are problem documents (RFC 9457) whose code is the protocol's word.",
			"license":     object{"name": "Apache 2.0", "identifier": "Apache-2.0"},
		},
		"servers": []object{{"url": strings.TrimSuffix(server, "/") + "/"}},
		"paths":   paths,
		"components": object{
			"schemas": schemas.named,
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer",
				"description": "A token of agentnet token create, or a JWT of the configured issuer. A browser that is signed in may send its session's cookie instead; for changes with the header X-Agentnet-Form, whose value is in the meta element agentnet-form of each page."}},
		},
	}, "", " ")
}

// pathParameter is a part of a route's path that stands for any value.
var pathParameter = regexp.MustCompile(`:([a-z]+)`)

// operation describes one route.
func (s *schemas) operation(route Route) (object, error) {
	op := object{"operationId": route.Name, "summary": route.Summary}
	if route.Doc != "" {
		op["description"] = route.Doc
	}
	op["security"] = []object{{"token": []string{}}}
	switch route.Access {
	case Public:
		op["security"] = []object{}
	case Scrape:
		op["security"] = []object{{}, {"token": []string{}}}
	}
	var parameters []object
	for _, found := range pathParameter.FindAllStringSubmatch(route.Path, -1) {
		parameters = append(parameters, object{"name": found[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	if route.Query != nil {
		query, err := s.parameters(route.Query)
		if err != nil {
			return nil, err
		}
		parameters = append(parameters, query...)
	}
	if parameters != nil {
		op["parameters"] = parameters
	}
	if route.Body != nil {
		schema, err := s.reference(route.Body)
		if err != nil {
			return nil, err
		}
		op["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": schema}}}
	}
	responses, err := s.responses(route)
	op["responses"] = responses
	return op, err
}

func (s *schemas) responses(route Route) (object, error) {
	content := object{}
	if route.Reply == nil {
		content[route.ReplyType] = object{"schema": object{}}
	} else {
		schema, err := s.reference(route.Reply)
		if err != nil {
			return nil, err
		}
		content["application/json"] = object{"schema": schema}
	}
	if route.Stream != nil {
		item, err := s.reference(route.Stream)
		if err != nil {
			return nil, err
		}
		// OpenAPI 3.1 has no schema for streams: this is that of one line or event.
		content[mimeLines] = object{"schema": item}
		content[mimeEvents] = object{"schema": item}
	}
	responses := object{"200": object{"description": "Done.", "content": content}}
	if route.Name == "readyz" {
		responses["503"] = object{"description": "Not ready; the body says why.", "content": content}
	}
	problem, err := s.reference(Problem{})
	if err != nil {
		return nil, err
	}
	codes := slices.Clone(route.Codes)
	if route.Access != Public {
		codes = append(codes, wire.Unauthorized, wire.RateLimited)
	}
	meaning := map[int][]string{}
	for _, code := range codes {
		if status := Status(code); !slices.Contains(meaning[status], string(code)) {
			meaning[status] = append(meaning[status], string(code))
		}
	}
	if route.Body != nil {
		meaning[415] = []string{string(wire.BadFrame)}
	}
	if route.Stream != nil {
		meaning[502] = []string{"the code of the agent that refused"}
	}
	for status, words := range meaning {
		response := object{
			"description": "Code " + strings.Join(words, " or ") + ".",
			"content":     object{ProblemType: object{"schema": problem}},
		}
		switch status {
		case 401:
			response["headers"] = object{"WWW-Authenticate": object{"schema": object{"type": "string"}}}
		case 429, 503:
			response["headers"] = object{"Retry-After": object{"description": "Seconds.", "schema": object{"type": "integer", "minimum": 1}}}
		}
		responses[strconv.Itoa(status)] = response
	}
	return responses, nil
}
