package wire

// NameBytes bounds the length of an agent's or channel's name, and of a glob.
const NameBytes = 128

// nameBytes holds the bytes that a name may contain besides the slash.
var nameBytes = [256]bool{
	'-': true, '.': true, ':': true, '@': true, '_': true,
	'0': true, '1': true, '2': true, '3': true, '4': true, '5': true, '6': true, '7': true, '8': true, '9': true,
	'A': true, 'B': true, 'C': true, 'D': true, 'E': true, 'F': true, 'G': true, 'H': true, 'I': true, 'J': true,
	'K': true, 'L': true, 'M': true, 'N': true, 'O': true, 'P': true, 'Q': true, 'R': true, 'S': true, 'T': true,
	'U': true, 'V': true, 'W': true, 'X': true, 'Y': true, 'Z': true,
	'a': true, 'b': true, 'c': true, 'd': true, 'e': true, 'f': true, 'g': true, 'h': true, 'i': true, 'j': true,
	'k': true, 'l': true, 'm': true, 'n': true, 'o': true, 'p': true, 'q': true, 'r': true, 's': true, 't': true,
	'u': true, 'v': true, 'w': true, 'x': true, 'y': true, 'z': true,
}

// nameParts returns how many parts a name has, 0 when it is not a name.
func nameParts[T ~string | ~[]byte](name T) int {
	if len(name) == 0 || len(name) > NameBytes {
		return 0
	}
	parts, start := 1, 0
	for i := 0; i < len(name); i++ {
		if nameBytes[name[i]] {
			continue
		}
		if name[i] != '/' || i == start {
			return 0
		}
		parts++
		start = i + 1
	}
	if start == len(name) {
		return 0
	}
	return parts
}

// ValidAgent reports whether name can be an agent's name: `name` or `owner/name`.
func ValidAgent[T ~string | ~[]byte](name T) bool {
	n := nameParts(name)
	return n == 1 || n == 2
}

// ValidChannel reports whether name can be a channel's name: parts with a slash
// between.
func ValidChannel[T ~string | ~[]byte](name T) bool { return nameParts(name) > 0 }

// What a refused name is told.
const (
	wantAgent   = "expected an agent name: name or owner/name, 1 to 128 bytes of A-Z a-z 0-9 . _ - : @"
	wantChannel = "expected a channel name: a/b/c, 1 to 128 bytes of A-Z a-z 0-9 . _ - : @ / without an empty part"
	wantGlob    = "expected a glob: a name in which * stands for anything within a part and ** for anything"
)
