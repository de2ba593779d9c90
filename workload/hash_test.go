package workload

import (
	"encoding/json"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
)

// sweep makes the tests that can be exhaustive so, at the cost of minutes.
var sweep = flag.Bool("sweep", false, "flip every bit of the longer range proofs too")

func TestHashText(t *testing.T) {
	h := Sum([]byte("text"))
	if got, err := ParseHash(h.String()); err != nil || got != h {
		t.Errorf("%v came back as %v, %v", h, got, err)
	}
	if got, err := ParseHash(strings.ToUpper(h.String())); err != nil || got != h {
		t.Errorf("upper case of %v came back as %v, %v", h, got, err)
	}
	b, err := json.Marshal(map[Hash]Hash{h: h})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"` + h.String() + `":"` + h.String() + `"}`; string(b) != want {
		t.Errorf("JSON is %s, want %s", b, want)
	}
	var back map[Hash]Hash
	if err := json.Unmarshal(b, &back); err != nil || back[h] != h {
		t.Errorf("JSON came back as %v, %v", back, err)
	}
	var v Hash
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.TextVar(&v, "hash", Hash{}, "")
	if err := flags.Parse([]string{"-hash", h.String()}); err != nil || v != h {
		t.Errorf("flag is %v, %v", v, err)
	}
	for _, s := range []string{"", h.String()[1:], h.String() + "0", "g" + h.String()[1:], " " + h.String()[1:]} {
		v := h
		if err := v.UnmarshalText([]byte(s)); !errors.Is(err, ErrHash) || v != h {
			t.Errorf("%q: %v, %v, want ErrHash and the old value", s, v, err)
		}
	}
	if (Hash{}).IsZero() != true || h.IsZero() {
		t.Error("IsZero")
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add(Sum(nil).String())
	f.Add("AF")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHash(s)
		switch {
		case err != nil && (!errors.Is(err, ErrHash) || !h.IsZero()):
			t.Fatalf("%v, %v", h, err)
		case err == nil && h.String() != strings.ToLower(s):
			t.Fatalf("%q came back as %q", s, h)
		}
	})
}

func TestSliceProof(t *testing.T) {
	a, b := Sum([]byte("a")), Sum([]byte("b"))
	if err := (SliceProof{Reference: a, Output: a, Payout: 5}).Verify(); err != nil {
		t.Error(err)
	}
	for _, p := range []SliceProof{{}, {Reference: a}, {Output: a}, {Reference: a, Output: b}} {
		if err := p.Verify(); !errors.Is(err, ErrProof) {
			t.Errorf("%+v: %v, want ErrProof", p, err)
		}
	}
	got, err := json.Marshal(SliceProof{a, b, 7})
	if want := `{"reference":"` + a.String() + `","output":"` + b.String() + `","payout":7}`; err != nil || string(got) != want {
		t.Errorf("JSON is %s, %v, want %s", got, err, want)
	}
}
