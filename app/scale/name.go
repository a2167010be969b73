package scale

import (
	"fmt"
	"slices"
	"strings"
)

// marshalName and unmarshalName give enumerations their names in JSON, in one
// place so that all refuse unknown names in the same words.
func marshalName(names []string, i int, kind string) ([]byte, error) {
	if i < 0 || i >= len(names) {
		return nil, fmt.Errorf("%s %d: unknown", kind, i)
	}
	return []byte(names[i]), nil
}

func unmarshalName[T ~uint8](names []string, text []byte, kind string, into *T) error {
	i := slices.Index(names, string(text))
	if i < 0 {
		return fmt.Errorf("%s %.40q: unknown, want one of %s", kind, text, strings.Join(names, ", "))
	}
	*into = T(i)
	return nil
}
