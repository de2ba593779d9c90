package couriertest

import (
	"context"
	"iter"
	"testing"

	"github.com/computemarket/computemarket/courier"
)

func TestModel(t *testing.T) { Run(t, models()) }

// models returns an Open for which a folder's model is always the same one.
func models() Open {
	byDir := map[string]*Model{}
	return func(dir string) (courier.Store, error) {
		if byDir[dir] == nil {
			byDir[dir] = new(Model)
		}
		return byDir[dir], nil
	}
}

// Each broken store must fail the suite.
func TestBroken(t *testing.T) {
	good := models()
	for name, wrap := range map[string]func(*Model) courier.Store{
		"forgets on reopen":           nil,
		"appends twice":               func(m *Model) courier.Store { return appendsTwice{m} },
		"hides conflicts":             func(m *Model) courier.Store { return hidesConflicts{m} },
		"takes anything":              func(m *Model) courier.Store { return takesAnything{m} },
		"ignores from":                func(m *Model) courier.Store { return ignoresFrom{m} },
		"lists what is new":           func(m *Model) courier.Store { return listsNew{m} },
		"moves what has moved":        func(m *Model) courier.Store { return movesStale{m} },
		"tears a move":                func(m *Model) courier.Store { return tearsMoves{m} },
		"keeps the cause":             func(m *Model) courier.Store { return keepsCause{m} },
		"miscounts":                   func(m *Model) courier.Store { return miscounts{m} },
		"needs pending receipts only": func(m *Model) courier.Store { return needsPending{m} },
		"carries on when cancelled":   func(m *Model) courier.Store { return uncancelled{m} },
		"answers after Close":         func(m *Model) courier.Store { return neverCloses{m} },
	} {
		t.Run(name, func(t *testing.T) {
			open := func(dir string) (courier.Store, error) {
				if wrap == nil {
					return new(Model), nil
				}
				s, err := good(dir)
				return wrap(s.(*Model)), err
			}
			for _, c := range Clauses() {
				if err := c.Check(t.Context(), t.TempDir(), open); err != nil {
					t.Logf("%s: %v", c.Name, err)
					return
				}
			}
			t.Error("passes")
		})
	}
}

type appendsTwice struct{ *Model }

func (s appendsTwice) Append(ctx context.Context, r courier.Receipt) (courier.Receipt, error) {
	if old, err := s.Get(ctx, r.ID); err == nil && old.Same(r) {
		s.Model.Move(ctx, to(courier.Gone, old))
	}
	return s.Model.Append(ctx, r)
}

type hidesConflicts struct{ *Model }

func (s hidesConflicts) Append(ctx context.Context, r courier.Receipt) (courier.Receipt, error) {
	if old, err := s.Get(ctx, r.ID); err == nil {
		return old, nil
	}
	return s.Model.Append(ctx, r)
}

type takesAnything struct{ *Model }

func (s takesAnything) Append(ctx context.Context, r courier.Receipt) (courier.Receipt, error) {
	if r.Validate() != nil {
		return r, nil
	}
	return s.Model.Append(ctx, r)
}

type ignoresFrom struct{ *Model }

func (s ignoresFrom) List(ctx context.Context, state courier.State, _ uint64) iter.Seq2[courier.Receipt, error] {
	return s.Model.List(ctx, state, 0)
}

type listsNew struct{ *Model }

func (s listsNew) List(ctx context.Context, state courier.State, from uint64) iter.Seq2[courier.Receipt, error] {
	return func(yield func(courier.Receipt, error) bool) {
		for more := true; more; {
			more = false
			for r, err := range s.Model.List(ctx, state, from) {
				if !yield(r, err) || err != nil {
					return
				}
				from, more = r.Seq+1, true
				break
			}
		}
	}
}

type movesStale struct{ *Model }

func (s movesStale) Move(ctx context.Context, moves []courier.Move) (int, error) {
	for i := range moves {
		if now, err := s.Get(ctx, moves[i].Receipt.ID); err == nil {
			moves[i].Receipt = now
		}
	}
	return s.Model.Move(ctx, moves)
}

type tearsMoves struct{ *Model }

func (s tearsMoves) Move(ctx context.Context, moves []courier.Move) (n int, err error) {
	for _, m := range moves {
		k, err := s.Model.Move(ctx, []courier.Move{m})
		if n += k; err != nil {
			return n, err
		}
	}
	return n, nil
}

type keepsCause struct{ *Model }

func (s keepsCause) Get(ctx context.Context, id courier.ID) (courier.Receipt, error) {
	r, err := s.Model.Get(ctx, id)
	if r.State == courier.Pending && r.Since != r.SentAt {
		r.Cause = courier.Expired
	}
	return r, err
}

type miscounts struct{ *Model }

func (s miscounts) Count(ctx context.Context) (courier.Counts, error) {
	c, err := s.Model.Count(ctx)
	c.Acknowledged += c.Dead
	return c, err
}

type needsPending struct{ *Model }

func (s needsPending) Needs(ctx context.Context, h courier.Hash) (bool, error) {
	for r := range s.List(ctx, courier.Pending, 0) {
		if r.Bundle == h {
			return true, nil
		}
	}
	return false, nil
}

type uncancelled struct{ *Model }

func (s uncancelled) Append(ctx context.Context, r courier.Receipt) (courier.Receipt, error) {
	return s.Model.Append(context.WithoutCancel(ctx), r)
}

type neverCloses struct{ *Model }

func (neverCloses) Close() error { return nil }
