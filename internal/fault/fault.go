// Package fault has the errors for the conditions that all packages share. Each
// package gives them a name of its own, receipt.ErrClosed and
// settlement.ErrClosed for example, with the same value behind it: a node asks
// once, whichever part of it answers.
package fault

import "errors"

var (
	// Options: a required argument is nil, or an option makes no sense.
	Options = errors.New("invalid option")
	// Poisoned: a write failed, and every later call is refused. What was not
	// acknowledged is there wholly or not at all.
	Poisoned = errors.New("a write failed; open the store again")
	// Unknown: a remote store did not answer in time: the write may have
	// happened, or may still.
	Unknown = errors.New("the outcome is unknown")
	// Closed: the store was closed.
	Closed = errors.New("closed")
	// Locked: somebody else has the folder or file open.
	Locked = errors.New("in use")
	// Corrupt: what is stored is damaged.
	Corrupt = errors.New("stored data is damaged")
	// Schema: what is stored has a format that this release does not know.
	Schema = errors.New("unknown format, or that of a newer release")
	// Migrate: the tables are missing, or those of an older release.
	Migrate = errors.New("the tables are missing or older; call Migrate")
	// Unsafe: the database server does not keep what it acknowledges.
	Unsafe = errors.New("the server may lose what was acknowledged")
)
