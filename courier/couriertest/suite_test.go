package couriertest

import (
	"context"
	"errors"
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

// Each broken store must fail the clause that it breaks.
func TestBroken(t *testing.T) {
	good := models()
	for name, broken := range map[string]struct {
		clause string
		wrap   func(*Model) courier.Store
	}{
		"forgets on reopen":           {"Reopen", nil},
		"appends twice":               {"AppendAgain", func(m *Model) courier.Store { return appendsTwice{m} }},
		"hides conflicts":             {"AppendConflict", func(m *Model) courier.Store { return hidesConflicts{m} }},
		"takes anything":              {"AppendInvalid", func(m *Model) courier.Store { return takesAnything{m} }},
		"ignores from":                {"ListFrom", func(m *Model) courier.Store { return ignoresFrom{m} }},
		"lists what is new":           {"ListAsItStood", func(m *Model) courier.Store { return listsNew{m} }},
		"moves what has moved":        {"MoveStale", func(m *Model) courier.Store { return movesStale{m} }},
		"tears a move":                {"MoveInvalid", func(m *Model) courier.Store { return tearsMoves{m} }},
		"moves on in one call":        {"MoveOnceInAGroup", func(m *Model) courier.Store { return tearsMoves{m} }},
		"keeps the cause":             {"Requeue", func(m *Model) courier.Store { return keepsCause{m} }},
		"miscounts":                   {"Move", func(m *Model) courier.Store { return miscounts{m} }},
		"needs pending receipts only": {"Needs", func(m *Model) courier.Store { return needsPending{m} }},
		"carries on when cancelled":   {"Cancelled", func(m *Model) courier.Store { return uncancelled{m} }},
		"answers after Close":         {"Closed", func(m *Model) courier.Store { return neverCloses{m} }},
		"returns what it is given":    {"Times", func(m *Model) courier.Store { return returnsGiven{m} }},
		"forgets the note":            {"Note", nil},
		"takes a note of any length":  {"Note", func(m *Model) courier.Store { return longNotes{m} }},
		"keeps the caller's note":     {"Note", func(m *Model) courier.Store { return aliasedNote{m} }},
		"forgets the greatest Seq":    {"Note", func(m *Model) courier.Store { return lastOfPending{m} }},
		"ends at damage":              {"Damaged", func(m *Model) courier.Store { return endsAtDamage{m} }},
		"takes the damaged for free":  {"Damaged", func(m *Model) courier.Store { return freesDamaged{m} }},
		"says that it is absent":      {"Damaged", func(m *Model) courier.Store { return hidesDamaged{m} }},
		"counts it where it was":      {"Damaged", func(m *Model) courier.Store { return countsInPlace{m} }},
		"counts it at each walk":      {"Damaged", func(m *Model) courier.Store { return &countsWalks{Model: m} }},
		"gives up its bundle":         {"Damaged", func(m *Model) courier.Store { return dropsDamaged{m} }},
		"moves the damaged":           {"DamagedMove", func(m *Model) courier.Store { return movesDamaged{m} }},
		"stops every move":            {"DamagedMove", func(m *Model) courier.Store { return stopsMoves{m} }},
		"gives its Seq to another":    {"DamagedLast", func(m *Model) courier.Store { return reusesSeq{m} }},
	} {
		t.Run(name, func(t *testing.T) {
			open := func(dir string) (courier.Store, error) {
				if broken.wrap == nil {
					return new(Model), nil
				}
				s, err := good(dir)
				return broken.wrap(s.(*Model)), err
			}
			for _, c := range Clauses() {
				if c.Name != broken.clause {
					continue
				}
				err := c.Check(t.Context(), t.TempDir(), open)
				if err == nil || errors.Is(err, ErrNotDamageable) {
					t.Errorf("passes %s: %v", c.Name, err)
				}
				t.Log(err)
				return
			}
			t.Errorf("no clause %s", broken.clause)
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

type returnsGiven struct{ *Model }

func (s returnsGiven) Append(ctx context.Context, r courier.Receipt) (courier.Receipt, error) {
	stored, err := s.Model.Append(ctx, r)
	stored.SentAt = r.SentAt
	return stored, err
}

type longNotes struct{ *Model }

func (s longNotes) SetNote(ctx context.Context, note []byte) error {
	return s.Model.SetNote(ctx, note[:min(len(note), courier.MaxNote)])
}

type aliasedNote struct{ *Model }

func (s aliasedNote) SetNote(ctx context.Context, note []byte) error {
	err := s.Model.SetNote(ctx, note)
	if err == nil {
		s.Model.note = note
	}
	return err
}

type lastOfPending struct{ *Model }

func (s lastOfPending) Note(ctx context.Context) (note []byte, last uint64, err error) {
	note, _, err = s.Model.Note(ctx)
	for r := range s.List(ctx, courier.Pending, 0) {
		last = r.Seq
	}
	return note, last, err
}

// bad returns what is damaged, of all that is.
func (m *Model) bad() (d damaged, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d = range m.damaged {
		return d, true
	}
	return d, false
}

type endsAtDamage struct{ *Model }

func (s endsAtDamage) List(ctx context.Context, state courier.State, from uint64) iter.Seq2[courier.Receipt, error] {
	return func(yield func(courier.Receipt, error) bool) {
		d, bad := s.bad()
		for r, err := range s.Model.List(ctx, state, from) {
			if bad && d.was.State == state && r.Seq > d.was.Seq {
				yield(courier.Receipt{}, courier.ErrCorrupt)
				return
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

type freesDamaged struct{ *Model }

func (s freesDamaged) Append(ctx context.Context, r courier.Receipt) (courier.Receipt, error) {
	stored, err := s.Model.Append(ctx, r)
	if errors.Is(err, courier.ErrCorrupt) {
		return r, nil
	}
	return stored, err
}

type hidesDamaged struct{ *Model }

func (s hidesDamaged) Get(ctx context.Context, id courier.ID) (courier.Receipt, error) {
	r, err := s.Model.Get(ctx, id)
	if errors.Is(err, courier.ErrCorrupt) {
		err = courier.ErrNotFound
	}
	return r, err
}

type countsInPlace struct{ *Model }

func (s countsInPlace) Count(ctx context.Context) (courier.Counts, error) {
	c, err := s.Model.Count(ctx)
	if d, bad := s.bad(); bad {
		*listed(&c, d.was.State)++
		c.Aside = 0
	}
	return c, err
}

type countsWalks struct {
	*Model
	walks uint64
}

func (s *countsWalks) List(ctx context.Context, state courier.State, from uint64) iter.Seq2[courier.Receipt, error] {
	s.walks++
	return s.Model.List(ctx, state, from)
}

func (s *countsWalks) Count(ctx context.Context) (courier.Counts, error) {
	c, err := s.Model.Count(ctx)
	c.Aside = s.walks
	return c, err
}

type dropsDamaged struct{ *Model }

func (s dropsDamaged) Needs(ctx context.Context, h courier.Hash) (bool, error) {
	if d, bad := s.bad(); bad && d.was.Bundle == h {
		return false, nil
	}
	return s.Model.Needs(ctx, h)
}

type movesDamaged struct{ *Model }

func (s movesDamaged) Move(ctx context.Context, moves []courier.Move) (int, error) {
	n, err := s.Model.Move(ctx, moves)
	for _, m := range moves {
		if d, bad := s.bad(); bad && d.was.ID == m.Receipt.ID {
			n++
		}
	}
	return n, err
}

type stopsMoves struct{ *Model }

func (s stopsMoves) Move(ctx context.Context, moves []courier.Move) (int, error) {
	if _, bad := s.bad(); bad {
		return 0, courier.ErrCorrupt
	}
	return s.Model.Move(ctx, moves)
}

type reusesSeq struct{ *Model }

func (s reusesSeq) Append(ctx context.Context, r courier.Receipt) (courier.Receipt, error) {
	if d, bad := s.bad(); bad {
		s.Model.last = d.was.Seq - 1
	}
	return s.Model.Append(ctx, r)
}
