package admission

import (
	"errors"
	"testing"
)

func TestLaneText(t *testing.T) {
	for _, l := range Lanes {
		b, err := l.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var got Lane
		if err := got.UnmarshalText(b); err != nil || got != l {
			t.Errorf("%v came back as %v, %v", l, got, err)
		}
	}
	for _, s := range []string{"", "Consumer", "lane(0)", "industrial "} {
		if _, err := ParseLane(s); !errors.Is(err, ErrLane) {
			t.Errorf("ParseLane(%q): %v, want ErrLane", s, err)
		}
	}
	for _, l := range []Lane{0, 3} {
		if _, err := l.MarshalText(); !errors.Is(err, ErrLane) {
			t.Errorf("%v marshals: %v, want ErrLane", l, err)
		}
	}
}
