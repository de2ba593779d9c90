package match

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/computemarket/computemarket/internal/callback"
)

// start hands new matches to Finalize.
func (l *Loop) start(ctx context.Context, workers *sync.WaitGroup, fs []flight) {
	defer clear(fs)
	if l.o.Finalize == nil {
		l.ready = append(l.ready, fs...)
		return
	}
	for _, f := range fs {
		l.finalizing++
		workers.Go(func() {
			l.finalize(ctx, &f)
			l.judged <- f // Run takes them all before it returns
		})
	}
}

// finalize runs the work of a match. Whatever the caller's code does is that
// match's failure: one bad job must not take the others down with it.
func (l *Loop) finalize(ctx context.Context, f *flight) {
	f.err = callback.Run("Finalize", func() error { return l.o.Finalize(ctx, f.match) })
	if p, ok := f.err.(*callback.Panic); ok {
		f.err = &PanicError{Value: p.Value, Stack: p.Stack}
	}
	if f.err == nil {
		return
	}
	err := callback.Run("the verdict", func() error {
		f.badBid, f.badAsk = errors.Is(f.err, ErrBadBid), errors.Is(f.err, ErrBadAsk)
		return nil
	})
	if err != nil {
		f.err = err
	}
}

// judgeAll takes the answers that are there.
func (l *Loop) judgeAll(ctx context.Context) {
	for {
		select {
		case f := <-l.judged:
			l.judge(ctx, f)
		default:
			return
		}
	}
}

// judge takes Finalize's answer.
func (l *Loop) judge(ctx context.Context, f flight) {
	l.finalizing--
	if f.err == nil {
		l.ready = append(l.ready, f)
		return
	}
	if ctx.Err() != nil { // shutting down is nobody's fault
		l.release(f.match)
		return
	}
	args := []any{"bid", f.match.Bid, "ask", f.match.Ask, "err", f.err}
	if p, ok := f.err.(*PanicError); ok {
		args = append(args, "stack", string(p.Stack))
	}
	l.report(slog.LevelInfo, "match not final", args...)
	if f.badAsk {
		l.check(l.book.giveUp(f.match, Ask))
	} else {
		l.check(l.book.Release(f.match, Ask))
	}
	switch {
	case f.badBid:
		l.check(l.book.giveUp(f.match, Bid))
	case l.o.OnFailure == DropBid:
		l.check(l.book.giveUp(f.match, Bid))
		f.err = fmt.Errorf("%w: %w", ErrBadBid, f.err)
	case f.badAsk: // it is gone: the bid cannot meet it again
		l.check(l.book.Release(f.match, Bid))
	default:
		l.check(l.book.giveBack(f.match, later(l.lanes.tick(l.now()), l.o.ReturnAfter)))
	}
	l.onFailed(f.match, f.err)
}
