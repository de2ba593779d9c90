package settlementtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"testing"

	"github.com/computemarket/computemarket/settlement"
)

// Clause is one promise of an interface, checked on what Open gives: a
// settlement.Ledger, a settlement.Store, or Books of both.
type Clause[T any] struct {
	Name  string
	Check func(ctx context.Context, open Open[T]) error
}

// Open opens the ledger or store with the given name, which is new in each
// clause. Opened again under the same name, after it was closed if it is an
// io.Closer, it has what was acknowledged before.
type Open[T any] func(name string) (T, error)

func run[T any](t *testing.T, clauses []Clause[T], open Open[T]) {
	for _, c := range clauses {
		t.Run(c.Name, func(t *testing.T) {
			if err := c.Check(t.Context(), open); err != nil {
				t.Error(err)
			}
		})
	}
}

// with opens a ledger or store for f, and closes it.
func with[T any](name string, open Open[T], f func(T) error) error {
	x, err := open(name)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	err = f(x)
	if c, ok := any(x).(io.Closer); ok {
		err = errors.Join(err, c.Close())
	}
	return err
}

// Conserved returns an error unless the balances of all accounts add up to what
// is outstanding.
func Conserved(ctx context.Context, l settlement.Ledger) error {
	outstanding, err := l.Balance(ctx, l.Issuer())
	if err != nil {
		return err
	}
	var sum, n uint64
	last := ""
	for a, err := range l.Accounts(ctx) {
		if err != nil {
			return fmt.Errorf("Accounts: %w", err)
		}
		if n > 0 && a.Name <= last {
			return fmt.Errorf("account %q follows %q", a.Name, last)
		}
		if a.Name == l.Issuer() {
			return errors.New("Accounts yields the issuer")
		}
		if a.Balance > math.MaxUint64-sum {
			return errors.New("the balances add up to more than 64 bits")
		}
		n++
		last = a.Name
		sum += a.Balance
	}
	if sum != outstanding {
		return fmt.Errorf("not conserved: the balances add up to %d, %d are outstanding", sum, outstanding)
	}
	return nil
}
