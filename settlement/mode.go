package settlement

import "fmt"

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
