package kv_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementpebble"
)

func putState(ctx context.Context, db *kv.DB) error {
	s, err := settlementpebble.NewStore(db)
	if err != nil {
		return err
	}
	st, err := s.Acquire(ctx)
	if err == nil {
		st.Mode, st.Cursor, st.Failed = settlement.Real, 7, 1
		err = s.Save(ctx, st, []settlement.Failure{{Seq: 7, Receipt: numberedReceipt(7, false), Reason: settlement.ReasonInsufficient, Tries: 1}}, nil)
	}
	return errors.Join(err, s.Close())
}

func lookAtState(ctx context.Context, db *kv.DB, _ *slog.Logger, see *sight) error {
	s, err := settlementpebble.NewStore(db)
	if err != nil {
		return err
	}
	defer s.Close()
	st, err := s.Acquire(ctx)
	see.add("state", fmt.Sprint(st.Mode, " ", st.Cursor, " ", st.Applied, " ", st.Failed), err)
	for f, err := range s.Failures(ctx) {
		if err != nil {
			see.found++ // an iteration may end there
			break
		}
		see.add(fmt.Sprint("failure ", f.Seq), fmt.Sprint(f.Reason, f.Receipt), nil)
	}
	f, err := s.Failure(ctx, 7)
	see.add("failure 7", fmt.Sprint(f.Reason, f.Receipt), err)
	return nil
}
