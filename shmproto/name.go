package shmproto

// NameRule says in words which names ValidName accepts, for error texts.
const NameRule = "1 to 32 letters, digits and . _ -, beginning with a letter or digit"

// ValidName reports whether a gateway or a member can have this name: 1 to
// MaxNameLen of A-Z a-z 0-9 . _ -, the first a letter or digit. So a name can be
// part of a file's name without hiding the file or leaving its directory.
func ValidName(name string) bool {
	return 0 < len(name) && len(name) <= MaxNameLen && badNameByte(name) < 0
}

// badNameByte returns the place of the first byte that a name cannot have there,
// -1 if there is none.
func badNameByte[T string | []byte](name T) int {
	for i := range len(name) {
		c := name[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || c != '.' && c != '_' && c != '-') {
			return i
		}
	}
	return -1
}
