package app

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxConfigFile bounds the file; a larger one is surely not a configuration.
const maxConfigFile = 1 << 20

// ReadFile takes the values of a YAML file into c. It reports all faults at once,
// each with file and line.
func (c *Config) ReadFile(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if info.Size() > maxConfigFile {
		return fmt.Errorf("config: %s has %d bytes, more than the %d that a configuration may have", name, info.Size(), maxConfigFile)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	return c.ReadYAML(name, text)
}

// ReadYAML takes the values of YAML text into c; name is what faults call it.
func (c *Config) ReadYAML(name string, text []byte) error {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		line, _, _ := strings.Cut(err.Error(), "\n")
		return fmt.Errorf("config: %s: not valid YAML: %s", name, line)
	}
	if len(file.Docs) > 1 {
		return fmt.Errorf("config: %s: holds %d documents, want one", name, len(file.Docs))
	}
	r := reading{name: name}
	for _, doc := range file.Docs {
		if doc.Body != nil {
			r.section(doc.Body, reflect.ValueOf(c).Elem(), "", 0)
		}
	}
	return errors.Join(r.faults...)
}

// reading goes through one file and collects what is wrong.
type reading struct {
	name   string
	faults []error
}

func (r *reading) fault(n ast.Node, format string, args ...any) {
	line := 0
	if t := n.GetToken(); t != nil && t.Position != nil {
		line = t.Position.Line
	}
	r.faults = append(r.faults, fmt.Errorf("%s:%d: %s", r.name, line, fmt.Sprintf(format, args...)))
}

// section reads a mapping into v, a struct.
func (r *reading) section(n ast.Node, v reflect.Value, prefix string, depth int) {
	entries, ok := mapping(n)
	if !ok {
		if n.Type() != ast.NullType && n.Type() != ast.CommentType {
			r.fault(n, "%s: want keys and values below it", orTop(strings.TrimSuffix(prefix, ".")))
		}
		return
	}
	if depth > 8 {
		r.fault(n, "%s: nested too deeply", prefix)
		return
	}
	places := map[string]int{}
	for i := range v.NumField() {
		places[v.Type().Field(i).Tag.Get("yaml")] = i
	}
	seen := map[string]bool{}
	for _, e := range entries {
		key := e.Key.GetToken().Value
		i, known := places[key]
		switch {
		case !known:
			r.fault(e.Key, "unknown key %s%s%s", prefix, key, suggestion(key, prefix, places))
		case seen[key]:
			r.fault(e.Key, "%s%s is given twice", prefix, key)
		default:
			seen[key] = true
			_, secret := v.Type().Field(i).Tag.Lookup("secret")
			r.value(e.Value, v.Field(i), prefix+key, secret, depth)
		}
	}
}

func orTop(key string) string {
	if key == "" {
		return "the file"
	}
	return key
}

// value reads n into v, whatever it is.
func (r *reading) value(n ast.Node, v reflect.Value, key string, secret bool, depth int) {
	switch {
	case isSection(v):
		r.section(n, v, key+".", depth+1)
	case n.Type() == ast.NullType: // nothing was said
	case isRules(v):
		list, ok := n.(*ast.SequenceNode)
		if !ok {
			r.fault(n, "%s: want a list, each entry beginning with \"- \"", key)
			return
		}
		v.SetZero()
		for i, entry := range list.Values {
			rule := reflect.New(v.Type().Elem()).Elem()
			applyDefaults(rule)
			r.section(entry, rule, fmt.Sprintf("%s[%d].", key, i), depth+1)
			v.Set(reflect.Append(v, rule))
		}
	case v.Kind() == reflect.Slice:
		r.list(n, v, key)
	default:
		text, ok := scalar(n)
		if !ok {
			r.fault(n, "%s: want one value", key)
		} else if err := setText(v, text); err != nil {
			if secret {
				err = errors.New("the value cannot be read")
			}
			r.fault(n, "%s: %v", key, err)
		}
	}
}

// list reads texts; one alone counts as a list of one.
func (r *reading) list(n ast.Node, v reflect.Value, key string) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		if text, ok := scalar(n); ok {
			v.Set(reflect.ValueOf([]string{text}))
		} else {
			r.fault(n, "%s: want a list", key)
		}
		return
	}
	list := []string{}
	for _, entry := range seq.Values {
		text, ok := scalar(entry)
		if !ok {
			r.fault(entry, "%s: want a list of single values", key)
			return
		}
		list = append(list, text)
	}
	v.Set(reflect.ValueOf(list))
}

func mapping(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

// scalar returns the text of a single value as it was written.
func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// suggestion names the key that was probably meant.
func suggestion(key, prefix string, places map[string]int) string {
	best, distance := "", 3
	for known := range places {
		if d := editDistance(key, known); d < distance || d == distance && best != "" && known < best {
			best, distance = known, d
		}
	}
	if best == "" {
		return "; \"agentnet config doc\" lists all"
	}
	return fmt.Sprintf("; did you mean %s%s?", prefix, best)
}

// editDistance is the number of letters to change, add or take away.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := corner
			if a[i] != b[j] {
				cost++
			}
			corner = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
