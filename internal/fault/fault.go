// Package fault has the errors for the conditions that all packages share. Each
// package gives them a name of its own, receipt.ErrClosed and
// settlement.ErrClosed for example, with the same value behind it: a node asks
// once, whichever part of it answers.
package fault

import "errors"

var (
	// ErrOptions: a required argument is nil, or an option makes no sense.
	ErrOptions = errors.New("invalid option")
	// ErrPoisoned: a write failed, and every later call is refused. What was not
	// acknowledged is there wholly or not at all.
	ErrPoisoned = errors.New("a write failed; open the store again")
	// ErrUnknown: a remote store did not answer in time: the write may have
	// happened, or may still.
	ErrUnknown = errors.New("the outcome is unknown")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("closed")
	// ErrLocked: somebody else has the folder or file open.
	ErrLocked = errors.New("in use")
	// ErrCorrupt: what is stored is damaged.
	ErrCorrupt = errors.New("stored data is damaged")
	// ErrSchema: what is stored has a format that this release does not know.
	ErrSchema = errors.New("unknown format, or that of a newer release")
	// ErrMigrate: the tables are missing, or those of an older release.
	ErrMigrate = errors.New("the tables are missing or older; call Migrate")
	// ErrUnsafe: the database server does not keep what it acknowledges.
	ErrUnsafe = errors.New("the server may lose what was acknowledged")
)
