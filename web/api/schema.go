package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"agentnet/app/wire"
)

// schemas collects the JSON Schemas of Go types. Struct tags say what types
// cannot: doc, enum (words with commas between), default, min, max.
type schemas struct {
	limits wire.Limits
	named  object
}

var rawJSON = reflect.TypeFor[json.RawMessage]()

// reference describes the type of v once and returns a reference to it.
func (s *schemas) reference(v any) (object, error) { return s.of(reflect.TypeOf(v)) }

func (s *schemas) of(t reflect.Type) (object, error) {
	if t == rawJSON {
		return object{"description": "Any JSON value."}, nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Bool:
		return object{"type": "boolean"}, nil
	case reflect.String:
		return object{"type": "string"}, nil
	case reflect.Int, reflect.Int64:
		return object{"type": "integer"}, nil
	case reflect.Uint64:
		return object{"type": "integer", "minimum": 0}, nil
	case reflect.Float64:
		return object{"type": "number"}, nil
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{"type": "string", "contentEncoding": "base64"}, nil
		}
		items, err := s.of(t.Elem())
		return object{"type": "array", "items": items}, err
	case reflect.Map:
		values, err := s.of(t.Elem())
		return object{"type": "object", "additionalProperties": values}, err
	case reflect.Struct:
		return s.structure(t)
	}
	return nil, fmt.Errorf("no JSON schema for %s", t)
}

// structure describes a struct under its name.
func (s *schemas) structure(t reflect.Type) (object, error) {
	ref := object{"$ref": "#/components/schemas/" + t.Name()}
	if _, done := s.named[t.Name()]; done {
		return ref, nil
	}
	schema := object{"type": "object"}
	s.named[t.Name()] = schema // before its fields, which may lead back to it
	properties, required := object{}, []string{}
	for i := range t.NumField() {
		field := t.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "-" || !field.IsExported() {
			continue
		}
		property, err := s.field(field)
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t.Name(), field.Name, err)
		}
		properties[name] = property
		if !strings.Contains(options, "omitempty") {
			required = append(required, name)
		}
	}
	schema["properties"] = properties
	if len(required) > 0 {
		schema["required"] = required
	}
	return ref, nil
}

// field describes one field with what its tags say.
func (s *schemas) field(field reflect.StructField) (object, error) {
	schema, err := s.of(field.Type)
	if err != nil {
		return nil, err
	}
	if doc := field.Tag.Get("doc"); doc != "" {
		schema["description"] = doc
	}
	if words := field.Tag.Get("enum"); words != "" {
		schema["enum"] = strings.Split(words, ",")
	}
	for tag, keyword := range map[string]string{"min": "minimum", "max": "maximum", "default": "default"} {
		text, given := field.Tag.Lookup(tag)
		if !given {
			continue
		}
		schema[keyword] = text
		if schema["type"] == "integer" {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("tag %s: %w", tag, err)
			}
			schema[keyword] = n
		}
	}
	switch name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name {
	case "ttl_ms":
		schema["maximum"] = s.limits.MaxTTLMS
	case "timeout_ms":
		schema["maximum"] = s.limits.MaxTimeoutMS
	}
	return schema, nil
}

// parameters describes the fields of a struct as parameters of the query.
func (s *schemas) parameters(v any) ([]object, error) {
	t := reflect.TypeOf(v)
	var parameters []object
	for i := range t.NumField() {
		field := t.Field(i)
		schema, err := s.field(field)
		if err != nil {
			return nil, err
		}
		parameter := object{"name": field.Tag.Get("query"), "in": "query", "schema": schema}
		if doc, ok := schema["description"]; ok {
			parameter["description"] = doc
			delete(schema, "description")
		}
		parameters = append(parameters, parameter)
	}
	return parameters, nil
}
