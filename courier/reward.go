package courier

import (
	"context"
	"errors"
	"fmt"

	"github.com/computemarket/computemarket/internal/callback"
)

// Rewarder credits the carrier. A few lines over a ledger make one, with a
// transfer ID made of the credit's ID and account.
type Rewarder interface {
	// Credit applies credits in order, each at most once per ID and account,
	// however often it comes, durably. It stops at the first that fails and
	// returns how many stand, those that stood before included. [ErrRejected] says
	// that the one it stopped at will never be taken; it alone becomes Dead. After
	// any other error that one stays pending, to be forwarded and credited by a
	// later flush, and those behind it are credited by another call.
	Credit(ctx context.Context, credits []Credit) (n int, err error)
}

// Credit is owed to the carrier's account for forwarding a receipt.
type Credit struct {
	ID      ID
	Account string
	Amount  uint64 // never 0
}

// credit calls the rewarder and believes it nothing that cannot be.
func (c *Courier) credit(ctx context.Context, credits []Credit) (n int, err error) {
	err = callback.Run("Rewarder.Credit", func() (err error) {
		n, err = c.opts.Rewarder.Credit(ctx, credits)
		return err
	})
	if n < 0 || n > len(credits) || n < len(credits) && err == nil {
		return 0, fmt.Errorf("courier: the rewarder credited %d of %d: %v", n, len(credits), err)
	}
	return n, c.logged(err)
}

// rejects reports whether err is a rewarder's word that it will never take a
// credit. What it panicked with is not.
func rejects(err error) bool {
	_, panicked := errors.AsType[*callback.Panic](err)
	return errors.Is(err, ErrRejected) && !panicked
}
