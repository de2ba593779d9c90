package priceboard

import (
	"fmt"
	"log/slog"
	"time"
)

// MaxWindow is the largest window. Version 1 of the saved form gives the length
// of its payload in 32 bits, and this many prices fit.
const MaxWindow = (1<<32 - 1 - payload1) / 8

// Options are the settings of a board. The zero value, and nil, take every
// default.
type Options struct {
	// Window is how many of the most recent prices count, at most [MaxWindow].
	// A price takes 16 to 40 bytes of memory; with MaxPerParty 40 to 80, and
	// each party that has prices in the window up to 150 more and its name. A
	// save needs as much as the file for its time. Defaults to 100.
	Window int

	// MinSamples is how many prices the window must hold before there are
	// bands, at most Window. Defaults to 1.
	MinSamples int

	// MaxPerParty is how many prices of one party the window holds. When a
	// party that has so many records another, its own oldest leaves, so no
	// party can push out the others. Prices recorded without a party count as
	// those of one. Parties are saved with the prices; a price from a file of
	// version 1, which has none, counts for nobody. Defaults to no limit.
	MaxPerParty int

	// SaveInterval is how often [Board.Run] saves a board that has changed.
	// Defaults to 30 s.
	SaveInterval time.Duration

	// Logger receives a line for each load and save. Defaults to none.
	Logger *slog.Logger
}

// withDefaults returns a checked copy of o.
func (o *Options) withDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if c.Window == 0 {
		c.Window = 100
	}
	if c.MinSamples == 0 {
		c.MinSamples = 1
	}
	if c.SaveInterval == 0 {
		c.SaveInterval = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.Window < 1 || c.Window > MaxWindow:
		return c, fmt.Errorf("%w: Window %d, want 1 to %d", ErrOptions, c.Window, MaxWindow)
	case c.MinSamples < 1 || c.MinSamples > c.Window:
		return c, fmt.Errorf("%w: MinSamples %d, want 1 to the window %d", ErrOptions, c.MinSamples, c.Window)
	case c.MaxPerParty < 0:
		return c, fmt.Errorf("%w: MaxPerParty %d, want 0 or more", ErrOptions, c.MaxPerParty)
	case c.SaveInterval < 0:
		return c, fmt.Errorf("%w: SaveInterval %v, want more than 0", ErrOptions, c.SaveInterval)
	}
	return c, nil
}
