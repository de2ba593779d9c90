package admission

import (
	"errors"
	"testing"
)

func TestModesAndCodesInText(t *testing.T) {
	for _, m := range Modes {
		text, err := m.MarshalText()
		got := Mode(99)
		if uerr := got.UnmarshalText(text); err != nil || uerr != nil || got != m {
			t.Errorf("%v came back as %v, %v, %v", m, got, err, uerr)
		}
	}
	for c := range codes {
		text, err := Code(c).MarshalText()
		got := Code(99)
		if uerr := got.UnmarshalText(text); err != nil || uerr != nil || got != Code(c) {
			t.Errorf("%v came back as %v, %v, %v", Code(c), got, err, uerr)
		}
	}
	m, c := ModeTight, Admitted
	for _, s := range []string{"", "Tight", "code(99)"} {
		if err := m.UnmarshalText([]byte(s)); !errors.Is(err, ErrText) || m != ModeTight {
			t.Errorf("mode %q: %v, %v", s, m, err)
		}
		if err := c.UnmarshalText([]byte(s)); !errors.Is(err, ErrText) || c != Admitted {
			t.Errorf("code %q: %v, %v", s, c, err)
		}
	}
}
