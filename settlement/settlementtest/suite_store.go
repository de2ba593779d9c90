package settlementtest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement"
)

// RunStore checks every clause of settlement.Store, each in a subtest of its
// own.
func RunStore(t *testing.T, open Open[settlement.Store]) { run(t, StoreClauses(), open) }

// StoreClauses returns all clauses of the suite.
func StoreClauses() []Clause[settlement.Store] {
	return []Clause[settlement.Store]{
		{"NewStoreIsZero", newStoreIsZero},
		{"SaveTogether", saveTogether},
		{"Archive", archive},
		{"Fenced", fenced},
		{"AdvanceThenSave", advanceThenSave},
		{"StoreCancelled", storeCancelled},
		{"StoreReopen", storeReopen},
	}
}

// Full is a state in which no field is zero but the epoch.
var Full = settlement.State{
	Mode: settlement.Armed, Reason: "why ü", Height: 4, Cursor: 5, Applied: 6, Failed: 7,
	Activation: settlement.Activation{Remaining: 3 * time.Second, Height: 9},
}

func failure(seq uint64) settlement.Failure {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	return settlement.Failure{
		Seq: seq, Receipt: receipt.New(fmt.Sprintf("job-%d", seq), "buyer", "provider", seq, at),
		Reason: settlement.ReasonInsufficient, Detail: "the ledger said so", At: at, Tries: 2,
	}
}

func wantState(ctx context.Context, s settlement.Store, want settlement.State) (settlement.State, error) {
	got, err := s.Acquire(ctx)
	if err != nil {
		return got, fmt.Errorf("Acquire: %w", err)
	}
	want.Epoch = got.Epoch
	if got != want {
		return got, fmt.Errorf("state %+v, want %+v", got, want)
	}
	return got, nil
}

func wantFailures(ctx context.Context, s settlement.Store, want ...settlement.Failure) error {
	var got []settlement.Failure
	for f, err := range s.Failures(ctx) {
		if err != nil {
			return fmt.Errorf("Failures: %w", err)
		}
		got = append(got, f)
	}
	if len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
		return fmt.Errorf("archive %+v, want %+v", got, want)
	}
	for _, f := range want {
		if got, err := s.Failure(ctx, f.Seq); err != nil || !reflect.DeepEqual(got, f) {
			return fmt.Errorf("Failure(%d): %+v, %v, want %+v", f.Seq, got, err, f)
		}
	}
	return nil
}

func newStoreIsZero(ctx context.Context, open Open[settlement.Store]) error {
	return with("new", open, func(s settlement.Store) error {
		got, err := wantState(ctx, s, settlement.State{})
		if err == nil && got.Epoch == 0 {
			err = errors.New("the first epoch is 0")
		}
		if _, ferr := s.Failure(ctx, 1); !errors.Is(ferr, settlement.ErrNotArchived) {
			err = errors.Join(err, fmt.Errorf("Failure: %w, want ErrNotArchived", ferr))
		}
		return errors.Join(err, wantFailures(ctx, s))
	})
}

// saveTogether: state and archive are there together after a reopen.
func saveTogether(ctx context.Context, open Open[settlement.Store]) error {
	err := with("together", open, func(s settlement.Store) error {
		got, err := s.Acquire(ctx)
		if err != nil {
			return err
		}
		st := Full
		st.Epoch = got.Epoch
		return s.Save(ctx, st, []settlement.Failure{failure(5)}, nil)
	})
	if err != nil {
		return err
	}
	return with("together", open, func(s settlement.Store) error {
		_, err := wantState(ctx, s, Full)
		return errors.Join(err, wantFailures(ctx, s, failure(5)))
	})
}

func archive(ctx context.Context, open Open[settlement.Store]) error {
	return with("archive", open, func(s settlement.Store) error {
		st, err := s.Acquire(ctx)
		if err != nil {
			return err
		}
		again := failure(300)
		again.Tries++
		return errors.Join(
			s.Save(ctx, st, []settlement.Failure{failure(300), failure(2)}, nil),
			s.Save(ctx, st, []settlement.Failure{failure(70)}, nil),
			wantFailures(ctx, s, failure(2), failure(70), failure(300)),
			s.Save(ctx, st, []settlement.Failure{again}, []uint64{2, 12345}),
			wantFailures(ctx, s, failure(70), again),
		)
	})
}

func fenced(ctx context.Context, open Open[settlement.Store]) error {
	return with("fenced", open, func(s settlement.Store) error {
		old, err := s.Acquire(ctx)
		if err != nil {
			return err
		}
		young, err := s.Acquire(ctx)
		if err != nil {
			return err
		}
		if young.Epoch <= old.Epoch {
			return fmt.Errorf("epoch %d follows %d", young.Epoch, old.Epoch)
		}
		old.Cursor, young.Cursor = 1, 2
		if err := s.Save(ctx, old, []settlement.Failure{failure(1)}, nil); !errors.Is(err, settlement.ErrFenced) {
			return fmt.Errorf("Save of an old epoch: %v, want ErrFenced", err)
		}
		if err := s.Advance(ctx, old); !errors.Is(err, settlement.ErrFenced) {
			return fmt.Errorf("Advance of an old epoch: %v, want ErrFenced", err)
		}
		if err := s.Save(ctx, young, nil, nil); err != nil {
			return err
		}
		_, err = wantState(ctx, s, settlement.State{Cursor: 2})
		return errors.Join(err, wantFailures(ctx, s))
	})
}

func advanceThenSave(ctx context.Context, open Open[settlement.Store]) error {
	err := with("advance", open, func(s settlement.Store) error {
		st, err := s.Acquire(ctx)
		if err != nil {
			return err
		}
		for cursor := range uint64(10) {
			st.Cursor = cursor
			if err := s.Advance(ctx, st); err != nil {
				return err
			}
		}
		return s.Save(ctx, st, nil, nil) // what Advance recorded is durable now
	})
	if err != nil {
		return err
	}
	return with("advance", open, func(s settlement.Store) error {
		_, err := wantState(ctx, s, settlement.State{Cursor: 9})
		return err
	})
}

func storeCancelled(ctx context.Context, open Open[settlement.Store]) error {
	return with("cancelled", open, func(s settlement.Store) error {
		st, err := s.Acquire(ctx)
		if err != nil {
			return err
		}
		dead, cancel := context.WithCancel(ctx)
		cancel()
		st.Cursor = 1
		for name, err := range map[string]error{
			"Save":    s.Save(dead, st, []settlement.Failure{failure(1)}, nil),
			"Advance": s.Advance(dead, st),
		} {
			if !errors.Is(err, context.Canceled) {
				return fmt.Errorf("%s: %v, want context.Canceled", name, err)
			}
		}
		_, err = wantState(ctx, s, settlement.State{})
		return errors.Join(err, wantFailures(ctx, s))
	})
}

func storeReopen(ctx context.Context, open Open[settlement.Store]) error {
	var epoch uint64
	for i := range uint64(3) {
		err := with("reopen", open, func(s settlement.Store) error {
			st, err := wantState(ctx, s, settlement.State{Cursor: i})
			if err != nil {
				return err
			}
			if st.Epoch <= epoch {
				return fmt.Errorf("epoch %d after reopening, it was %d", st.Epoch, epoch)
			}
			epoch = st.Epoch
			st.Cursor = i + 1
			return s.Save(ctx, st, nil, nil)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
