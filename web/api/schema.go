package api

import (
	"encoding"
	"encoding/json"
	"fmt"
	"path"
	"reflect"
	"strconv"
	"strings"
	"time"

	"agentnet/app/wire"
)

// schemas collects the JSON Schemas of Go types. Struct tags say what types
// cannot: doc, enum (words with commas between), default, min, max.
type schemas struct {
	limits wire.Limits
	named  object
}

var (
	rawJSON  = reflect.TypeFor[json.RawMessage]()
	timeType = reflect.TypeFor[time.Time]()
)

// reference describes the type of v once and returns a reference to it.
func (s *schemas) reference(v any) (object, error) { return s.of(reflect.TypeOf(v)) }

func (s *schemas) of(t reflect.Type) (object, error) {
	switch t {
	case rawJSON:
		return object{"description": "Any JSON value."}, nil
	case timeType:
		return object{"type": "string", "format": "date-time"}, nil
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}, nil
	case t.Kind() != reflect.Pointer && reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return object{"type": "string"}, nil // an enumeration by its names
	case t.Kind() != reflect.Pointer && t.Implements(reflect.TypeFor[json.Marshaler]()):
		return object{"type": "object"}, nil // its own form, such as readings by signal
	case t.Kind() == reflect.Interface:
		return object{"description": "Any JSON value."}, nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Bool:
		return object{"type": "boolean"}, nil
	case reflect.String:
		return object{"type": "string"}, nil
	case reflect.Int, reflect.Int32, reflect.Int64:
		return object{"type": "integer"}, nil
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
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
	if t.Name() == "" {
		return object{"type": "object"}, nil
	}
	ref := object{"$ref": "#/components/schemas/" + schemaName(t)}
	if _, done := s.named[schemaName(t)]; done {
		return ref, nil
	}
	schema := object{"type": "object"}
	s.named[schemaName(t)] = schema // before its fields, which may lead back to it
	properties, required := object{}, []string{}
	if err := s.fields(t, properties, &required); err != nil {
		return nil, err
	}
	schema["properties"] = properties
	if len(required) > 0 {
		schema["required"] = required
	}
	return ref, nil
}

// schemaName is the name of a struct's schema. Those of the scaling packages carry
// theirs, because words such as Node and Region are used by others too.
func schemaName(t reflect.Type) string {
	if pkg := path.Base(t.PkgPath()); pkg == "scale" || pkg == "watch" || pkg == "chain" {
		return pkg + "." + t.Name()
	}
	return t.Name()
}

// fields describes the fields of a struct, and those of what it embeds as its own.
func (s *schemas) fields(t reflect.Type, properties object, required *[]string) error {
	for i := range t.NumField() {
		field := t.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "-" || !field.IsExported() {
			continue
		}
		if field.Anonymous && name == "" && field.Type.Kind() == reflect.Struct {
			if err := s.fields(field.Type, properties, required); err != nil {
				return err
			}
			continue
		}
		if name == "" {
			name = field.Name
		}
		property, err := s.field(field)
		if err != nil {
			return fmt.Errorf("%s.%s: %w", t.Name(), field.Name, err)
		}
		properties[name] = property
		if !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero") {
			*required = append(*required, name)
		}
	}
	return nil
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
