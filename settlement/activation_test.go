package settlement_test

import (
	"encoding/json"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/computemarket/computemarket/settlement"
)

func TestActivationJSON(t *testing.T) {
	for text, want := range map[string]settlement.Activation{
		`{}`:                                   {},
		`{"remaining_ns":0}`:                   settlement.After(0),
		`{"remaining_ns":1500000000}`:          settlement.After(1500 * time.Millisecond),
		`{"remaining_ns":9223372036854775807}`: settlement.After(math.MaxInt64),
		`{"height":1}`:                         settlement.AtHeight(1),
		`{"height":18446744073709551615}`:      settlement.AtHeight(math.MaxUint64),
	} {
		got := settlement.AtHeight(77)
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", text, got, err, want)
		}
		if again, err := json.Marshal(want); err != nil || string(again) != text {
			t.Errorf("%v: %s, %v, want %s", want, again, err, text)
		}
	}
	for text, activation := range map[string]bool{
		`{"remaining_ns":-1}`:                  true,
		`{"height":0}`:                         true,
		`{"remaining_ns":1,"height":1}`:        true,
		`{"remaining_ns":0,"height":0}`:        true,
		`{"height":-1}`:                        false,
		`{"remaining_ns":9223372036854775808}`: false,
		`{"remaining_ns":"1"}`:                 false,
		`{"remaining_ns":1,"since":2}`:         false,
		`[]`:                                   false,
	} {
		got := settlement.AtHeight(77)
		err := json.Unmarshal([]byte(text), &got)
		if err == nil || errors.Is(err, settlement.ErrActivation) != activation || got != settlement.AtHeight(77) {
			t.Errorf("%s: %v, %v, want an error, ErrActivation: %v, and the value as it was", text, got, err, activation)
		}
	}
	// A field of a later release is not dropped from a state without a word.
	_, err := settlement.DecodeState([]byte(`{"mode":"armed","activation":{"remaining_ns":1,"since":2},"height":0,"cursor":0,"applied":0,"failed":0}`))
	if !errors.Is(err, settlement.ErrSchema) {
		t.Errorf("%v, want ErrSchema", err)
	}
}
