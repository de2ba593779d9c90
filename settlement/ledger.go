package settlement

import (
	"context"
	"encoding/hex"
	"fmt"
	"iter"
	"unicode/utf8"
)

const (
	// MaxAccountBytes bounds the name of an account, in bytes of UTF-8.
	MaxAccountBytes = 256
	// MaxTagBytes bounds the tag of a transfer, in bytes of UTF-8.
	MaxTagBytes = 256
)

// ID identifies a transfer for ever.
type ID [32]byte

// String returns the id as 64 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Transfer moves credits from one account to another.
type Transfer struct {
	ID       ID
	From, To string // accounts; one of them may be the ledger's issuer
	Amount   uint64 // credits
	Tag      string // what it was for, such as "settle:" and the receipt's key
}

// Validate returns [ErrAccount], [ErrSelfTransfer] or [ErrTag] unless a ledger
// may apply t.
func (t *Transfer) Validate() error {
	for _, account := range [...]string{t.From, t.To} {
		if account == "" || len(account) > MaxAccountBytes || !utf8.ValidString(account) {
			return ErrAccount
		}
	}
	if t.From == t.To {
		return ErrSelfTransfer
	}
	if len(t.Tag) > MaxTagBytes || !utf8.ValidString(t.Tag) {
		return ErrTag
	}
	return nil
}

// Result is what a ledger did with a transfer.
type Result uint8

const (
	// Applied: the credits moved now.
	Applied Result = iota + 1
	// Duplicate: they had moved before, under the same ID.
	Duplicate
)

// String returns the name in lower case.
func (r Result) String() string {
	switch r {
	case Applied:
		return "applied"
	case Duplicate:
		return "duplicate"
	}
	return fmt.Sprintf("result(%d)", uint8(r))
}

// Account is an account and what it holds.
type Account struct {
	Name    string
	Balance uint64 // credits
}

// Ledger keeps the balances. Credits enter and leave only through its issuing
// account: a transfer from it issues, one to it burns. The sum of all other
// balances equals what was issued less what was burned, always.
//
// Implementations are safe for concurrent use, and pass the suite of package
// settlementtest. An account exists once a transfer has named it; before that
// its balance is 0.
type Ledger interface {
	// Post applies the transfers in order and stops at the first that fails. It
	// returns a result for each transfer that it came past, and why it stopped,
	// or nil for all of them: like io.Writer.
	//
	// Atomicity: each transfer is a debit and a credit together; the call as a
	// whole is not atomic. Exactly once: a transfer whose ID was applied before,
	// however long ago, is a Duplicate if its content is the same. Durability:
	// what the results say is durable when Post returns, also a Duplicate.
	// Concurrency: of equal transfers posted at the same time one is Applied.
	// The slice is not kept.
	//
	// Fence: an engine passes its lease. A ledger that shares a database with
	// the engine's Store refuses a lease that is not the latest with ErrFenced,
	// and has moved nothing under it since the later one was acquired. The zero
	// Lease is that of callers who are no engine, and is not compared. A ledger
	// that has no leases to compare ignores it.
	//
	// A transfer fails with ErrInsufficient, ErrOverflow, ErrConflict,
	// ErrCorrupt or one that wraps ErrInvalid, and has moved nothing.
	// ErrPoisoned, ErrUnknown, ErrClosed and the error of ctx say nothing about
	// the transfers without a result: post them again.
	Post(ctx context.Context, lease Lease, transfers []Transfer) ([]Result, error)

	// Balance returns what the account holds, all of it durable. For the issuer
	// it returns what is outstanding: issued less burned. Possible errors:
	// ErrCorrupt, ErrPoisoned, ErrClosed, that of ctx.
	Balance(ctx context.Context, account string) (uint64, error)

	// Accounts yields all accounts but the issuer, in the order of their names
	// as bytes, as they stood when the iteration began. An error ends it:
	// ErrCorrupt, ErrPoisoned, ErrClosed, that of ctx.
	Accounts(ctx context.Context) iter.Seq2[Account, error]

	// Issuer returns the name of the issuing account.
	Issuer() string
}
