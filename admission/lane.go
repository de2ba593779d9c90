package admission

import (
	"errors"
	"fmt"
)

// Lane is the class of traffic that a transaction declares. The zero Lane is
// undeclared and valid nowhere, so that a forgotten lane never takes the
// consumers' priority.
type Lane uint8

const (
	Consumer   Lane = iota + 1 // people waiting for an answer; always first
	Industrial                 // bulk work; comes in when there is room
)

// Lanes lists the declared lanes in order of priority.
var Lanes = [...]Lane{Consumer, Industrial}

// ErrLane reports a text or number that names no lane. It is the caller's
// input; it stays wrong however often it is tried.
var ErrLane = errors.New("admission: unknown lane")

// ParseLane is the inverse of [Lane.String] for declared lanes. It returns
// [ErrLane] for any other text.
func ParseLane(s string) (Lane, error) {
	for _, l := range Lanes {
		if s == l.String() {
			return l, nil
		}
	}
	return 0, fmt.Errorf("%w: %q", ErrLane, s)
}

// Valid reports whether l is declared.
func (l Lane) Valid() bool { return l == Consumer || l == Industrial }

// String returns "consumer" or "industrial"; an undeclared lane prints as
// "lane(n)".
func (l Lane) String() string {
	switch l {
	case Consumer:
		return "consumer"
	case Industrial:
		return "industrial"
	}
	return fmt.Sprintf("lane(%d)", uint8(l))
}

// MarshalText implements [encoding.TextMarshaler]. It returns [ErrLane] for an
// undeclared lane.
func (l Lane) MarshalText() ([]byte, error) {
	if !l.Valid() {
		return nil, fmt.Errorf("%w: %d", ErrLane, uint8(l))
	}
	return []byte(l.String()), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler]. It returns [ErrLane] for
// a text that names no lane.
func (l *Lane) UnmarshalText(b []byte) error {
	v, err := ParseLane(string(b))
	if err != nil {
		return err
	}
	*l = v
	return nil
}
