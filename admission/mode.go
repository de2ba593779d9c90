package admission

import "fmt"

// Invariant: a switch between normal and tight, and every step out of brownout,
// comes at least a dwell after the switch before it. Only the step into brownout
// does not wait. Recovery goes brownout, tight, normal: one step down at a time.

// Mode is how much room the controller sees for industry.
type Mode uint8

const (
	ModeNormal   Mode = iota // industry comes in as far as capacity and shares go
	ModeTight                // consumer fees are high: industry gets its trickle
	ModeBrownout             // too little or unknown capacity: no industry
)

// Modes lists the modes in order of severity.
var Modes = [...]Mode{ModeNormal, ModeTight, ModeBrownout}

// String returns "normal", "tight" or "brownout".
func (m Mode) String() string {
	switch m {
	case ModeNormal:
		return "normal"
	case ModeTight:
		return "tight"
	case ModeBrownout:
		return "brownout"
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// MarshalText implements [encoding.TextMarshaler] with the text of String.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. It returns [ErrText] for
// a text that names no mode, and leaves m alone.
func (m *Mode) UnmarshalText(text []byte) error {
	for _, known := range Modes {
		if string(text) == known.String() {
			*m = known
			return nil
		}
	}
	return fmt.Errorf("%w: mode %q", ErrText, text)
}

// machine is the mode with its memory. It knows nothing of clocks or samples.
type machine struct {
	mode     Mode
	since    int64 // when it last switched
	dwell    int64
	switches uint64
}

// pressure is what the signals say at one moment.
type pressure struct {
	starved bool // capacity is stale or under its minimum
	hot     bool // fees say that tight is called for
	calm    bool // fees say that tight is not called for
}

// step makes the switch that p calls for at now, if one is due.
func (m *machine) step(now int64, p pressure) {
	to := m.mode
	switch {
	case p.starved:
		to = ModeBrownout
	case m.mode == ModeBrownout:
		to = ModeTight
	case m.mode == ModeNormal && p.hot:
		to = ModeTight
	case m.mode == ModeTight && p.calm:
		to = ModeNormal
	}
	if to == m.mode || to != ModeBrownout && now < m.since+m.dwell {
		return
	}
	m.mode, m.since = to, now
	m.switches++
}
