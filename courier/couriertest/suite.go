package couriertest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/computemarket/computemarket/courier"
)

// Open opens the store whose data is under the folder dir, which is there, and
// empty at first. A store that is an io.Closer is closed before its data is
// opened again, and must then answer with courier.ErrClosed. Clauses about
// bundles and notes are left out for a store that is no courier.BundleIndex or
// no courier.Notebook. A store that is [Damageable] is held to more.
type Open func(dir string) (courier.Store, error)

// Run runs the suite, one subtest for each clause of the contract.
func Run(t *testing.T, open Open) {
	for _, c := range Clauses() {
		t.Run(c.Name, func(t *testing.T) {
			err := c.Check(t.Context(), t.TempDir(), open)
			if errors.Is(err, ErrNotDamageable) {
				t.Skip(err)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// Clause is one promise of courier.Store. Check returns an error unless the
// stores that open gives keep it, or [ErrNotDamageable]; dir is an empty folder.
type Clause struct {
	Name  string
	Check func(ctx context.Context, dir string, open Open) error
}

// Clauses returns all clauses of the suite.
func Clauses() []Clause { return slices.Clone(clauses) }

var clauses = []Clause{
	{"AppendAndGet", with(appendAndGet)},
	{"AppendAgain", with(appendAgain)},
	{"AppendConflict", with(appendConflict)},
	{"AppendInvalid", with(appendInvalid)},
	{"AppendAtOnce", with(appendAtOnce)},
	{"ListInOrder", with(listInOrder)},
	{"ListFrom", with(listFrom)},
	{"ListAsItStood", with(listAsItStood)},
	{"Move", with(move)},
	{"MoveOnce", with(moveOnce)},
	{"MoveOnceInAGroup", with(moveOnceInAGroup)},
	{"MoveStale", with(moveStale)},
	{"MoveInvalid", with(moveInvalid)},
	{"MoveAtOnce", with(moveAtOnce)},
	{"Requeue", with(requeue)},
	{"Needs", with(needs)},
	{"Cancelled", with(cancelled)},
	{"Times", times},
	{"Note", note},
	{"Reopen", reopen},
	{"Closed", closed},
	{"Damaged", damagedAside},
	{"DamagedMove", damagedMove},
	{"DamagedLast", damagedLast},
}

func with(check func(context.Context, courier.Store) error) func(context.Context, string, Open) error {
	return func(ctx context.Context, dir string, open Open) error {
		s, err := open(dir)
		if err != nil {
			return err
		}
		return errors.Join(check(ctx, s), shut(s))
	}
}

func shut(s courier.Store) error {
	if c, ok := s.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

var epoch = time.UnixMicro(1_700_000_000_123_456).UTC()

// receipt returns the i-th receipt, of a bundle that every third shares.
func receipt(i int) courier.Receipt {
	r := courier.Receipt{Carried: i%5 != 4, Size: int64(i % 3), Sender: fmt.Sprintf("sender\n%d\x00é", i), SentAt: epoch.Add(time.Duration(i) * time.Second)}
	binary.BigEndian.PutUint64(r.ID[8:], uint64(i)*0x9e3779b97f4a7c15) // in no order
	r.Bundle[0], r.Bundle[31] = byte(i%3), 0xff
	return r
}

func fill(ctx context.Context, s courier.Store, from, to int) (all []courier.Receipt, err error) {
	for i := from; i < to; i++ {
		r, err := s.Append(ctx, receipt(i))
		if err != nil {
			return nil, fmt.Errorf("Append: %w", err)
		}
		all = append(all, r)
	}
	return all, nil
}

// expect compares a list with what it should be.
func expect(ctx context.Context, s courier.Store, state courier.State, from uint64, want ...courier.Receipt) error {
	i := 0
	for r, err := range s.List(ctx, state, from) {
		if err != nil {
			return fmt.Errorf("List(%v): %w", state, err)
		}
		if i >= len(want) {
			return fmt.Errorf("List(%v): more than %d", state, len(want))
		}
		if r != want[i] {
			return fmt.Errorf("List(%v)[%d] = %+v, want %+v", state, i, r, want[i])
		}
		i++
	}
	if i != len(want) {
		return fmt.Errorf("List(%v): %d receipts, want %d", state, i, len(want))
	}
	return nil
}

func counts(ctx context.Context, s courier.Store, want courier.Counts) error {
	got, err := s.Count(ctx)
	if err != nil || got != want {
		return fmt.Errorf("Count = %+v, %v, want %+v", got, err, want)
	}
	return nil
}

func get(ctx context.Context, s courier.Store, want courier.Receipt) error {
	got, err := s.Get(ctx, want.ID)
	if err != nil || got != want {
		return fmt.Errorf("Get = %+v, %v, want %+v", got, err, want)
	}
	return nil
}

func to(state courier.State, rs ...courier.Receipt) (moves []courier.Move) {
	for _, r := range rs {
		m := courier.Move{Receipt: r, To: state, At: epoch.Add(time.Hour)}
		if state == courier.Dead {
			m.Cause, m.Reason = courier.Rejected, "no \"thanks\"\x00"
		}
		moves = append(moves, m)
	}
	return moves
}

func apply(ctx context.Context, s courier.Store, want int, moves ...courier.Move) error {
	n, err := s.Move(ctx, moves)
	if err != nil || n != want {
		return fmt.Errorf("Move = %d, %v, want %d", n, err, want)
	}
	return nil
}
