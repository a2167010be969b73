package app

import (
	"fmt"
	"io"
	"net/url"
	"reflect"
	"strconv"
	"strings"
)

// WriteDoc writes every key with its meaning, default, flag and variable, as a
// file that is itself a valid configuration.
func WriteDoc(w io.Writer) error {
	d := document{w: w}
	d.line("# Configuration of agentnet serve. Every key is also a flag and a variable of the")
	d.line("# environment; a flag counts before a variable, a variable before this file.")
	c := DefaultConfig()
	d.describe(reflect.ValueOf(&c).Elem(), "", "", true)
	return d.err
}

// WriteYAML writes all values of c; secrets are shown as ***.
func (c *Config) WriteYAML(w io.Writer) error {
	d := document{w: w}
	d.values(reflect.ValueOf(c).Elem(), "", "")
	return d.err
}

type document struct {
	w   io.Writer
	err error
}

func (d *document) line(format string, args ...any) {
	if d.err == nil {
		_, d.err = fmt.Fprintf(d.w, format+"\n", args...)
	}
}

// describe writes the keys below v. named is false inside lists of rules, whose
// values have neither flag nor variable.
func (d *document) describe(v reflect.Value, prefix, indent string, named bool) {
	for i := range v.NumField() {
		tag, value := v.Type().Field(i).Tag, v.Field(i)
		key, full := tag.Get("yaml"), prefix+tag.Get("yaml")
		d.line("")
		d.comment(indent, tag.Get("help"))
		switch {
		case isSection(value):
			d.line("%s%s:", indent, key)
			d.describe(value, full+".", indent+"  ", named)
		case isRules(value):
			d.line("%s%s:", indent, key)
			d.line("%s  # - each entry may have:", indent)
			d.describeRule(value.Type().Elem(), indent+"  ")
		default:
			flag := strings.NewReplacer("_", "-", ".", "-").Replace(full)
			d.line("%s# Flag --%s, variable %s%s.", indent, flag, EnvPrefix, strings.ToUpper(strings.ReplaceAll(flag, "-", "_")))
			d.line("%s# %s: %s", indent, key, yamlText(value))
		}
	}
}

func (d *document) describeRule(t reflect.Type, indent string) {
	rule := reflect.New(t).Elem()
	applyDefaults(rule)
	for i := range t.NumField() {
		d.line("%s#", indent)
		d.comment(indent, "  "+t.Field(i).Tag.Get("help"))
		d.line("%s#   %s: %s", indent, t.Field(i).Tag.Get("yaml"), yamlText(rule.Field(i)))
	}
}

// comment writes text in lines of at most about 90 columns.
func (d *document) comment(indent, text string) {
	lead := text[:len(text)-len(strings.TrimLeft(text, " "))]
	line := indent + "# " + lead
	for i, word := range strings.Fields(text) {
		if i > 0 && len(line)+len(word) > 90 {
			d.line("%s", strings.TrimRight(line, " "))
			line = indent + "# " + lead
		}
		line += word + " "
	}
	d.line("%s", strings.TrimRight(line, " "))
}

func (d *document) values(v reflect.Value, prefix, indent string) {
	for i := range v.NumField() {
		tag, value := v.Type().Field(i).Tag, v.Field(i)
		key := tag.Get("yaml")
		switch {
		case isSection(value):
			d.line("%s%s:", indent, key)
			d.values(value, prefix+key+".", indent+"  ")
		case isRules(value):
			d.rules(value, key, indent)
		default:
			kind, secret := tag.Lookup("secret")
			d.line("%s%s: %s", indent, key, shown(value, kind, secret))
		}
	}
}

func (d *document) rules(v reflect.Value, key, indent string) {
	if v.Len() == 0 {
		d.line("%s%s: []", indent, key)
		return
	}
	d.line("%s%s:", indent, key)
	for i := range v.Len() {
		entry := v.Index(i)
		for j := range entry.NumField() {
			tag := entry.Type().Field(j).Tag
			lead := "    "
			if j == 0 {
				lead = "  - "
			}
			kind, secret := tag.Lookup("secret")
			d.line("%s%s%s: %s", indent, lead, tag.Get("yaml"), shown(entry.Field(j), kind, secret))
		}
	}
}

// shown is a value for human eyes.
func shown(v reflect.Value, kind string, secret bool) string {
	if !secret || v.String() == "" {
		return yamlText(v)
	}
	if kind == "url" {
		if u, err := url.Parse(v.String()); err == nil && u.Host != "" && u.Opaque == "" {
			if _, has := u.User.Password(); has {
				u.User = url.UserPassword(u.User.Username(), "***")
				return strconv.Quote(strings.Replace(u.String(), "%2A%2A%2A", "***", 1))
			}
			return yamlText(v)
		}
	}
	return `"***"`
}

// yamlText is a value in the syntax of YAML.
func yamlText(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case string:
		return strconv.Quote(value)
	case []string:
		quoted := make([]string, len(value))
		for i, s := range value {
			quoted[i] = strconv.Quote(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	return textOf(v)
}
