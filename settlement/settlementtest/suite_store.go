package settlementtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement"
)

// RunStore checks every clause of settlement.Store, each in a subtest of its
// own. A clause acquires again and again on the store that open gave it: one
// whose leases have a term takes its own over.
func RunStore(t *testing.T, open Open[settlement.Store]) { run(t, StoreClauses(), open) }

// StoreClauses returns all clauses of the suite.
func StoreClauses() []Clause[settlement.Store] {
	return []Clause[settlement.Store]{
		{"NewStoreIsZero", newStoreIsZero},
		{"LoadTellsHolder", loadTellsHolder},
		{"SaveTogether", saveTogether},
		{"WholeState", wholeState},
		{"Archive", archive},
		{"Fenced", fenced},
		{"HolderCompared", holderCompared},
		{"AdvanceThenSave", advanceThenSave},
		{"Released", released},
		{"StoreCancelled", storeCancelled},
		{"StoreReopen", storeReopen},
	}
}

// Full is a state in which no field is zero.
var Full = settlement.State{
	Mode: settlement.Armed, Reason: "why ü", Height: 4, Cursor: 5, Applied: 6, Failed: 7,
	Activation: settlement.After(3*time.Second + 1),
}

func failure(seq uint64) settlement.Failure {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	return settlement.Failure{
		Seq: seq, Receipt: receipt.New(fmt.Sprintf("job-%d", seq), "buyer", "provider", seq, at),
		Reason: settlement.ReasonInsufficient, Detail: "the ledger said so", At: at, Tries: 2,
	}
}

// wantState acquires, and checks the state.
func wantState(ctx context.Context, s settlement.Store, want settlement.State) (settlement.Lease, error) {
	lease, got, err := s.Acquire(ctx)
	if err != nil {
		return lease, fmt.Errorf("Acquire: %w", err)
	}
	if got != want {
		return lease, fmt.Errorf("state %+v, want %+v", got, want)
	}
	if _, got, err := s.Load(ctx); err != nil || got != want {
		return lease, fmt.Errorf("Load: %+v, %w, want %+v", got, err, want)
	}
	return lease, nil
}

func wantFailures(ctx context.Context, s settlement.Store, from uint64, want ...settlement.Failure) error {
	var got []settlement.Failure
	for f, err := range s.Failures(ctx, from) {
		if err != nil {
			return fmt.Errorf("Failures: %w", err)
		}
		got = append(got, f)
	}
	if len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
		return fmt.Errorf("archive from %d: %+v, want %+v", from, got, want)
	}
	return nil
}

func wantFenced(what string, err error) error {
	if !errors.Is(err, settlement.ErrFenced) {
		return fmt.Errorf("%s: %w, want ErrFenced", what, err)
	}
	return nil
}

func newStoreIsZero(ctx context.Context, open Open[settlement.Store]) error {
	return with("new", open, func(s settlement.Store) error {
		lease, state, err := s.Load(ctx)
		if err != nil || !lease.IsZero() || state != (settlement.State{}) {
			return fmt.Errorf("Load: %+v, %+v, %w, want nobody and the zero state", lease, state, err)
		}
		lease, err = wantState(ctx, s, settlement.State{})
		if err == nil && (lease.Epoch == 0 || lease.Holder == "") {
			err = fmt.Errorf("the first lease is %+v", lease)
		}
		return errors.Join(err, wantFailures(ctx, s, 0))
	})
}

func loadTellsHolder(ctx context.Context, open Open[settlement.Store]) error {
	return with("load", open, func(s settlement.Store) error {
		lease, _, err := s.Acquire(ctx)
		if err != nil {
			return err
		}
		for range 2 {
			got, _, err := s.Load(ctx)
			if err != nil || !got.Is(lease) {
				return fmt.Errorf("Load: %+v, %w, want %+v", got, err, lease)
			}
		}
		return s.Save(ctx, lease, settlement.Change{State: Full}) // still its lease
	})
}

// saveTogether: state and archive are there together after a reopen.
func saveTogether(ctx context.Context, open Open[settlement.Store]) error {
	err := with("together", open, func(s settlement.Store) error {
		lease, _, err := s.Acquire(ctx)
		if err != nil {
			return err
		}
		return s.Save(ctx, lease, settlement.Change{State: Full, Put: []settlement.Failure{failure(5)}})
	})
	if err != nil {
		return err
	}
	return with("together", open, func(s settlement.Store) error {
		_, err := wantState(ctx, s, Full)
		return errors.Join(err, wantFailures(ctx, s, 0, failure(5)))
	})
}

func wholeState(ctx context.Context, open Open[settlement.Store]) error {
	return with("whole", open, func(s settlement.Store) error {
		most := settlement.State{
			Mode: settlement.Real, Reason: "\x00\x01'; --💶", Height: math.MaxUint64, Cursor: math.MaxUint64,
			Applied: math.MaxUint64, Failed: math.MaxUint64, Activation: settlement.AtHeight(math.MaxUint64),
		}
		now, longest := Full, Full
		now.Activation, longest.Activation = settlement.After(0), settlement.After(math.MaxInt64)
		for _, want := range []settlement.State{most, Full, now, longest, {}} {
			lease, _, err := s.Acquire(ctx)
			if err != nil {
				return err
			}
			if err := s.Save(ctx, lease, settlement.Change{State: want}); err != nil {
				return err
			}
			if _, err := wantState(ctx, s, want); err != nil {
				return err
			}
		}
		return nil
	})
}

func archive(ctx context.Context, open Open[settlement.Store]) error {
	return with("archive", open, func(s settlement.Store) error {
		lease, st, err := s.Acquire(ctx)
		if err != nil {
			return err
		}
		again := failure(300)
		again.Tries++
		save := func(put []settlement.Failure, drop ...uint64) error {
			return s.Save(ctx, lease, settlement.Change{State: st, Put: put, Drop: drop})
		}
		return errors.Join(
			save([]settlement.Failure{failure(300), failure(2)}),
			save([]settlement.Failure{failure(70)}),
			wantFailures(ctx, s, 0, failure(2), failure(70), failure(300)),
			wantFailures(ctx, s, 70, failure(70), failure(300)),
			wantFailures(ctx, s, 71, failure(300)),
			wantFailures(ctx, s, 301),
			save([]settlement.Failure{again}, 2, 12345),
			wantFailures(ctx, s, 0, failure(70), again),
		)
	})
}

// fenced: under the lease before the latest, nothing is written.
func fenced(ctx context.Context, open Open[settlement.Store]) error {
	return with("fenced", open, func(s settlement.Store) error {
		old, _, err := s.Acquire(ctx)
		if err != nil {
			return err
		}
		young, _, err := s.Acquire(ctx)
		if err != nil {
			return err
		}
		if young.Epoch <= old.Epoch || young.Holder == old.Holder {
			return fmt.Errorf("the lease %+v follows %+v", young, old)
		}
		if err := wantRefused(ctx, s, old); err != nil {
			return err
		}
		if err := s.Save(ctx, young, settlement.Change{State: settlement.State{Cursor: 2}}); err != nil {
			return err
		}
		_, err = wantState(ctx, s, settlement.State{Cursor: 2})
		return errors.Join(err, wantFailures(ctx, s, 0))
	})
}

func wantRefused(ctx context.Context, s settlement.Store, lease settlement.Lease) error {
	return errors.Join(
		wantFenced("Save", s.Save(ctx, lease, settlement.Change{State: Full, Put: []settlement.Failure{failure(1)}})),
		wantFenced("Save of the state", s.Save(ctx, lease, settlement.Change{State: Full})),
		wantFenced("Advance", s.Advance(ctx, lease, Full)),
		wantFenced("Release", s.Release(ctx, lease, Full)),
	)
}

// holderCompared: the epoch alone is not enough. A database that has lost its
// last writes gives the same epoch to somebody else.
func holderCompared(ctx context.Context, open Open[settlement.Store]) error {
	return with("holder", open, func(s settlement.Store) error {
		lease, _, err := s.Acquire(ctx)
		if err != nil {
			return err
		}
		other, older := lease, lease
		other.Holder += "'"
		older.Epoch--
		for _, wrong := range []settlement.Lease{other, older, {}, {Epoch: lease.Epoch}} {
			if err := wantRefused(ctx, s, wrong); err != nil {
				return fmt.Errorf("under %+v when %+v is the latest: %w", wrong, lease, err)
			}
		}
		return s.Save(ctx, lease, settlement.Change{})
	})
}

func advanceThenSave(ctx context.Context, open Open[settlement.Store]) error {
	err := with("advance", open, func(s settlement.Store) error {
		lease, st, err := s.Acquire(ctx)
		if err != nil {
			return err
		}
		for cursor := range uint64(10) {
			st.Cursor = cursor
			if err := s.Advance(ctx, lease, st); err != nil {
				return err
			}
		}
		return s.Save(ctx, lease, settlement.Change{State: st}) // what Advance recorded is durable now
	})
	if err != nil {
		return err
	}
	return with("advance", open, func(s settlement.Store) error {
		_, err := wantState(ctx, s, settlement.State{Cursor: 9})
		return err
	})
}

func released(ctx context.Context, open Open[settlement.Store]) error {
	err := with("released", open, func(s settlement.Store) error {
		lease, _, err := s.Acquire(ctx)
		if err != nil {
			return err
		}
		if err := s.Release(ctx, lease, settlement.State{Cursor: 3}); err != nil {
			return err
		}
		if got, _, err := s.Load(ctx); err != nil || !got.IsZero() {
			return fmt.Errorf("Load after Release: %+v, %w, want nobody", got, err)
		}
		return errors.Join(wantRefused(ctx, s, lease), wantRefused(ctx, s, settlement.Lease{Epoch: lease.Epoch}))
	})
	if err != nil {
		return err
	}
	return with("released", open, func(s settlement.Store) error {
		_, err := wantState(ctx, s, settlement.State{Cursor: 3})
		return err
	})
}

func storeCancelled(ctx context.Context, open Open[settlement.Store]) error {
	return with("cancelled", open, func(s settlement.Store) error {
		lease, st, err := s.Acquire(ctx)
		if err != nil {
			return err
		}
		dead, cancel := context.WithCancel(ctx)
		cancel()
		st.Cursor = 1
		_, _, loaded := s.Load(dead)
		for name, err := range map[string]error{
			"Load":    loaded,
			"Save":    s.Save(dead, lease, settlement.Change{State: st, Put: []settlement.Failure{failure(1)}}),
			"Advance": s.Advance(dead, lease, st),
			"Release": s.Release(dead, lease, st),
		} {
			if !errors.Is(err, context.Canceled) {
				return fmt.Errorf("%s: %v, want context.Canceled", name, err)
			}
		}
		_, err = wantState(ctx, s, settlement.State{})
		return errors.Join(err, wantFailures(ctx, s, 0))
	})
}

func storeReopen(ctx context.Context, open Open[settlement.Store]) error {
	var last settlement.Lease
	for i := range uint64(3) {
		err := with("reopen", open, func(s settlement.Store) error {
			lease, err := wantState(ctx, s, settlement.State{Cursor: i})
			if err != nil {
				return err
			}
			if lease.Epoch <= last.Epoch || lease.Holder == last.Holder {
				return fmt.Errorf("the lease %+v after reopening, it was %+v", lease, last)
			}
			last = lease
			return s.Save(ctx, lease, settlement.Change{State: settlement.State{Cursor: i + 1}})
		})
		if err != nil {
			return err
		}
	}
	return nil
}
