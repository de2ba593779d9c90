package settlement

import (
	"fmt"
	"time"
)

// Mode is whether receipts move credits.
type Mode uint8

const (
	DryRun Mode = iota // nothing moves
	Armed              // nothing moves yet
	Real               // what is owed moves
)

// Modes lists all of them.
var Modes = [...]Mode{DryRun, Armed, Real}

// String returns "dry_run", "armed" or "real".
func (m Mode) String() string {
	switch m {
	case DryRun:
		return "dry_run"
	case Armed:
		return "armed"
	case Real:
		return "real"
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// MarshalText implements [encoding.TextMarshaler].
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. It returns [ErrMode] for
// a text that names no mode.
func (m *Mode) UnmarshalText(text []byte) error {
	for _, known := range Modes {
		if string(text) == known.String() {
			*m = known
			return nil
		}
	}
	return fmt.Errorf("%w: %q", ErrMode, text)
}

// Activation is when an armed engine becomes Real: see [After] and [AtHeight].
type Activation struct {
	// Remaining is the time that has still to pass while an engine is running.
	Remaining time.Duration `json:"remaining_ns,omitempty"`
	// Height is the block height to be reached, or 0 if time decides.
	Height uint64 `json:"height,omitempty"`
}

// After activates when the delay has passed on the engine's clock. Only time
// counts during which the engine is open and sees its clock go beyond where it
// has been: neither a restart nor a clock that jumps back makes it fire early.
func After(delay time.Duration) Activation { return Activation{Remaining: delay} }

// AtHeight activates when [Engine.Height] is told of the height, or a greater
// one.
func AtHeight(height uint64) Activation { return Activation{Height: height} }

// String says when, in words.
func (a Activation) String() string {
	if a.Height > 0 {
		return fmt.Sprintf("at height %d", a.Height)
	}
	return fmt.Sprintf("in %v", a.Remaining)
}
