package main

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// listed is the line of b3sum for a result. A name with a backslash or a line
// break is escaped, and the line marked; one that is not UTF-8 is written so that
// the list is, and b3sum --check refuses that line alone. Before version 1.5.5
// b3sum did not escape carriage returns, and could not check such names.
func listed(res result) string {
	name := lossy(res.File)
	escaped := strings.NewReplacer("\\", `\\`, "\n", `\n`, "\r", `\r`).Replace(name)
	mark := ""
	if escaped != name {
		mark = `\`
	}
	return fmt.Sprintf("%s%v  %s", mark, res.Hash, escaped)
}

// lossy writes U+FFFD for each maximal part of s that begins a character of UTF-8
// and does not end it, or else for each byte that is part of none: the practice of
// the Unicode Standard (chapter 3.9) and of Rust, in which b3sum is written.
// strings.ToValidUTF8 writes one for a whole run.
func lossy(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			n = badPrefix(s)
		}
		b.WriteRune(r)
		s = s[n:]
	}
	return b.String()
}

// badPrefix is how many bytes of s, which begins with no character, are the
// beginning of one: 1 to 3.
func badPrefix(s string) int {
	for n := min(3, len(s)); n > 1; n-- {
		// A beginning of n bytes is one that some bytes complete.
		for _, rest := range []string{"\x80", "\x80\x80"} {
			if r, size := utf8.DecodeRuneInString(s[:n] + rest); r != utf8.RuneError && size > n {
				return n
			}
		}
	}
	return 1
}
