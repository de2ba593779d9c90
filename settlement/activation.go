package settlement

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Activation is when an armed engine becomes Real: see [After] and [AtHeight].
// The zero Activation is none, and no engine can be armed with it.
type Activation struct {
	kind  activationKind
	value uint64 // nanoseconds, or the height
}

type activationKind uint8

const (
	byTime activationKind = iota + 1
	byHeight
)

// After activates when the delay has passed while an engine was leading and
// looking at its clock. Neither a restart nor a clock that jumps, back or
// forward, makes it fire early: what passes while no engine leads does not
// count, and of a step of more than a minute between two looks only as much as
// really passed. After(0) activates at once.
func After(delay time.Duration) Activation { return Activation{byTime, uint64(delay)} }

// AtHeight activates when [Engine.ObserveHeight] is told of the height, or a
// greater one.
func AtHeight(height uint64) Activation { return Activation{byHeight, height} }

// IsZero reports whether a is none.
func (a Activation) IsZero() bool { return a == Activation{} }

// Remaining returns what is left of the delay; ok is false when a is not made by
// After.
func (a Activation) Remaining() (delay time.Duration, ok bool) {
	if a.kind != byTime {
		return 0, false
	}
	return time.Duration(a.value), true
}

// Height returns the height to be reached; ok is false when a is not made by
// AtHeight.
func (a Activation) Height() (height uint64, ok bool) {
	if a.kind != byHeight {
		return 0, false
	}
	return a.value, true
}

// String says when, in words.
func (a Activation) String() string {
	switch a.kind {
	case byTime:
		return fmt.Sprintf("in %v", time.Duration(a.value))
	case byHeight:
		return fmt.Sprintf("at height %d", a.value)
	}
	return "never"
}

// activationJSON is {"remaining_ns":n}, {"height":n} or {}.
type activationJSON struct {
	Remaining *time.Duration `json:"remaining_ns,omitempty"`
	Height    *uint64        `json:"height,omitempty"`
}

// MarshalJSON implements [json.Marshaler]: {"remaining_ns":n}, {"height":n}, or
// {} for none.
func (a Activation) MarshalJSON() ([]byte, error) {
	var j activationJSON
	if d, ok := a.Remaining(); ok {
		j.Remaining = &d
	}
	if h, ok := a.Height(); ok {
		j.Height = &h
	}
	return json.Marshal(j)
}

// UnmarshalJSON is the inverse of MarshalJSON. It returns [ErrActivation] for
// what no engine can be armed with, and an error for a field that it does not
// know; a then stays as it was.
func (a *Activation) UnmarshalJSON(data []byte) error {
	var j activationJSON
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&j); err != nil {
		return err
	}
	var read Activation
	switch {
	case j.Remaining != nil && j.Height != nil:
		return fmt.Errorf("%w: %s", ErrActivation, data)
	case j.Remaining != nil:
		read = After(*j.Remaining)
	case j.Height != nil:
		read = AtHeight(*j.Height)
	}
	if err := read.check(0); err != nil && !read.IsZero() {
		return err
	}
	*a = read
	return nil
}

// check returns ErrActivation unless an engine that has seen the height can be
// armed with a.
func (a Activation) check(seen uint64) error {
	delay, byTime := a.Remaining()
	height, byHeight := a.Height()
	switch {
	case byTime && delay < 0:
		return fmt.Errorf("%w: a delay of %v", ErrActivation, delay)
	case byHeight && height <= seen:
		return fmt.Errorf("%w: height %d, the engine has seen %d", ErrActivation, height, seen)
	case !byTime && !byHeight:
		return fmt.Errorf("%w: none; see After and AtHeight", ErrActivation)
	}
	return nil
}
