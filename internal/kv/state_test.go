package kv_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/pebbledb"
	"github.com/computemarket/computemarket/settlement/settlementpebble"
)

func putState(ctx context.Context, db *kv.DB) error {
	s, err := settlementpebble.NewStore((*pebbledb.DB)(db), nil)
	if err != nil {
		return err
	}
	lease, st, err := s.Acquire(ctx)
	if err == nil {
		st.Mode, st.Cursor, st.Failed = settlement.Real, 7, 2
		err = s.Save(ctx, lease, settlement.Change{State: st, Put: []settlement.Failure{
			{Seq: 6, Receipt: numberedReceipt(6, false), Reason: settlement.ReasonOverflow, Tries: 1},
			{Seq: 7, Receipt: numberedReceipt(7, false), Reason: settlement.ReasonInsufficient, Tries: 1},
		}})
	}
	return errors.Join(err, s.Close())
}

func lookAtState(ctx context.Context, db *kv.DB, _ *slog.Logger, see *sight) error {
	s, err := settlementpebble.NewStore((*pebbledb.DB)(db), nil)
	if err != nil {
		return err
	}
	defer s.Close()
	_, st, err := s.Acquire(ctx)
	see.add("state", fmt.Sprint(st.Mode, " ", st.Cursor, " ", st.Applied, " ", st.Failed), err)
	for f, err := range s.Failures(ctx, 0) {
		if err != nil {
			see.found++ // it comes last
			break
		}
		see.add(fmt.Sprint("failure ", f.Seq), fmt.Sprint(f.Reason, f.Receipt), nil)
	}
	return nil
}

func TestCloseWithinFailures(t *testing.T) {
	db, err := open(vfs.NewMem())
	if err == nil {
		err = putState(t.Context(), db)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := settlementpebble.NewStore((*pebbledb.DB)(db), nil)
	if err != nil {
		t.Fatal(err)
	}
	var errs []error
	for _, err := range s.Failures(t.Context(), 0) {
		if errs = append(errs, err); err == nil {
			if err := db.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
	}
	if len(errs) != 2 || errs[0] != nil || !errors.Is(errs[1], settlement.ErrClosed) {
		t.Errorf("the loop saw %v, want nil, ErrClosed", errs)
	}
}
