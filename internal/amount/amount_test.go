package amount

import (
	"encoding/json"
	"testing"
)

func TestJSON(t *testing.T) {
	for _, tt := range []struct {
		text string
		want JSON
		ok   bool
	}{
		{`"0"`, 0, true},
		{`"18446744073709551615"`, 1<<64 - 1, true},
		{`18446744073709551615`, 1<<64 - 1, true},
		{`9007199254740993`, 1<<53 + 1, true},
		{`null`, 7, true},
		{`"18446744073709551616"`, 7, false},
		{`-1`, 7, false},
		{`"-1"`, 7, false},
		{`1.0`, 7, false},
		{`1e3`, 7, false},
		{`""`, 7, false},
		{`"+1"`, 7, false},
		{`" 1"`, 7, false},
		{`"0x1"`, 7, false},
		{`"1_000"`, 7, false},
		{`{}`, 7, false},
		{`true`, 7, false},
	} {
		got := JSON(7)
		err := json.Unmarshal([]byte(tt.text), &got)
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("%s: %d, %v; want %d, and an error: %v", tt.text, got, err, tt.want, !tt.ok)
		}
	}
	text, err := json.Marshal(JSON(1<<64 - 1))
	if err != nil || string(text) != `"18446744073709551615"` {
		t.Errorf("marshaled as %s, %v", text, err)
	}
}
