package sqldb

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "alice", "\x00", "\x01", "\x00\x01\x02", "a\x00b", "💶"} {
		f.Add(s, s+"x")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		ta, tb := Text(a), Text(b)
		if plain, ok := Plain(ta); ok != utf8.ValidString(a) || plain != a {
			t.Errorf("%q came back as %q, %v", a, plain, ok)
		}
		if plain, ok := Plain(a); ok && Text(plain) != a {
			t.Errorf("%q was read as %q", a, plain)
		}
		if strings.IndexByte(ta, 0) >= 0 {
			t.Errorf("%q holds a NUL", ta)
		}
		if utf8.ValidString(a) != utf8.ValidString(ta) {
			t.Errorf("%q is UTF-8, %q is not, or the reverse", a, ta)
		}
		if strings.Compare(a, b) != strings.Compare(ta, tb) {
			t.Errorf("%q and %q change their order", a, b)
		}
		if AnyText(a) != Text(strings.ToValidUTF8(a, "\uFFFD")) {
			t.Errorf("AnyText(%q)", a)
		}
	})
}

func TestArray(t *testing.T) {
	var empty, bytes, texts, rest Array
	bytes.Bytes([]byte{0, 255})
	bytes.Bytes(nil)
	texts.Text(`a"b\c,{}`)
	texts.Text("")
	texts.Text("\x00")
	rest.Uint(1<<64 - 1)
	rest.Int(-1)
	rest.Bool(true)
	rest.Bool(false)
	rest.Time(time.Date(1, 1, 1, 0, 0, 0, 1999, time.UTC))
	rest.Time(time.Date(-3, 1, 1, 0, 0, 0, 0, time.UTC))
	for _, c := range []struct {
		got  Array
		want string
	}{
		{empty, `{}`},
		{bytes, `{"\\x00ff","\\x"}`},
		{texts, `{"a\"b\\c,{}","","` + "\x01\x01" + `"}`},
		{rest, `{18446744073709551615,-1,t,f,"0001-01-01 00:00:00.000001+00","0004-01-01 00:00:00.000000+00 BC"}`},
	} {
		if c.got.String() != c.want {
			t.Errorf("%s, want %s", c.got.String(), c.want)
		}
	}
}
