package app

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// A Field is one value of a Config under its three names.
type Field struct {
	Key     string // in the file: queue.slow_after
	Flag    string // without dashes: queue-slow-after
	Env     string // AGENTNET_QUEUE_SLOW_AFTER
	Default string
	Help    string
	Secret  string // "": may be shown; "url": its password may not
	OnlyIn  bool   // a list of rules: in the file only
	value   reflect.Value
}

// EnvPrefix begins the name of every variable.
const EnvPrefix = "AGENTNET_"

// Fields returns all values of c in the order of the file.
func (c *Config) Fields() []Field {
	var all []Field
	walk(reflect.ValueOf(c).Elem(), "", func(f Field) { all = append(all, f) })
	return all
}

// walk calls f for every value below v, a struct.
func walk(v reflect.Value, prefix string, f func(Field)) {
	for i := range v.NumField() {
		tag, value := v.Type().Field(i).Tag, v.Field(i)
		key := prefix + tag.Get("yaml")
		if isSection(value) {
			walk(value, key+".", f)
			continue
		}
		flag := strings.NewReplacer("_", "-", ".", "-").Replace(key)
		secret, isSecret := tag.Lookup("secret")
		if isSecret && secret == "" {
			secret = "all"
		}
		f(Field{
			Key: key, Flag: flag, Env: EnvPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_")),
			Default: tag.Get("default"), Help: tag.Get("help"), Secret: secret, OnlyIn: isRules(value), value: value,
		})
	}
}

func isSection(v reflect.Value) bool { return v.Kind() == reflect.Struct }

func isRules(v reflect.Value) bool {
	return v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct
}

// setDefaults gives every value its default.
func (c *Config) setDefaults() { applyDefaults(reflect.ValueOf(c).Elem()) }

// applyDefaults gives every value below v, a struct, its default. That the tags
// can be read is held by a test.
func applyDefaults(v reflect.Value) {
	walk(v, "", func(f Field) {
		f.value.SetZero()
		if f.Default != "" {
			if err := f.Set(f.Default); err != nil {
				panic("app: default of " + f.Key + ": " + err.Error())
			}
		}
	})
}

// Set reads text into the value. Lists are separated by commas.
func (f Field) Set(text string) error { return setText(f.value, text) }

var errOnlyInFile = errors.New("can only be given in the configuration file")

func setText(v reflect.Value, text string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		v.SetBool(b)
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return fmt.Errorf("%q is no whole number", text)
		}
		v.SetInt(n)
	case reflect.Float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || n != n {
			return fmt.Errorf("%q is no number", text)
		}
		v.SetFloat(n)
	case reflect.Slice:
		if isRules(v) {
			return errOnlyInFile
		}
		var list []string
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
		v.Set(reflect.ValueOf(list))
	default:
		return fmt.Errorf("cannot be set from text")
	}
	return nil
}

// Text returns the value as Set reads it.
func (f Field) Text() string { return textOf(f.value) }

func textOf(v reflect.Value) string {
	if list, ok := v.Interface().([]string); ok {
		return strings.Join(list, ",")
	}
	return fmt.Sprint(v.Interface())
}

// ApplyEnv takes every value that the environment gives, and returns the faults,
// each named by its variable.
func (c *Config) ApplyEnv(getenv func(string) string) (faults []error) {
	for _, f := range c.Fields() {
		if text := getenv(f.Env); text != "" && !f.OnlyIn {
			if err := f.Set(text); err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", f.Env, hideSecret(f, err)))
			}
		}
	}
	return faults
}

// Take copies the values of other whose flag is named.
func (c *Config) Take(other *Config, named func(flag string) bool) {
	from := other.Fields()
	for i, f := range c.Fields() {
		if named(f.Flag) {
			f.value.Set(from[i].value)
		}
	}
}

func hideSecret(f Field, err error) error {
	if f.Secret != "" {
		return fmt.Errorf("the value cannot be read")
	}
	return err
}
