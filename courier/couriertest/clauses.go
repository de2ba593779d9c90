package couriertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/computemarket/computemarket/courier"
)

func appendAndGet(ctx context.Context, s courier.Store) error {
	want := receipt(1)
	given := want
	given.State, given.Seq, given.Since, given.Cause, given.Reason = courier.Dead, 99, epoch, courier.Expired, "x"
	got, err := s.Append(ctx, given)
	if err != nil {
		return err
	}
	want.State, want.Seq, want.Since = courier.Pending, got.Seq, want.SentAt
	if got != want {
		return fmt.Errorf("Append = %+v, want %+v", got, want)
	}
	if _, err := s.Get(ctx, receipt(2).ID); !errors.Is(err, courier.ErrNotFound) {
		return fmt.Errorf("Get of nothing: %v, want ErrNotFound", err)
	}
	return errors.Join(get(ctx, s, got), counts(ctx, s, courier.Counts{Pending: 1}))
}

func appendAgain(ctx context.Context, s courier.Store) error {
	if _, err := fill(ctx, s, 0, 1); err != nil {
		return err
	}
	later := receipt(0)
	later.SentAt = later.SentAt.Add(time.Hour)
	for _, state := range []courier.State{courier.Pending, courier.Acknowledged, courier.Dead} {
		stored, err := s.Get(ctx, later.ID)
		if err != nil {
			return err
		}
		if stored.State != state {
			if err := apply(ctx, s, 1, to(state, stored)...); err != nil {
				return err
			}
			if stored, err = s.Get(ctx, later.ID); err != nil {
				return err
			}
		}
		got, err := s.Append(ctx, later)
		if err != nil || got != stored {
			return fmt.Errorf("Append of a receipt that is %v = %+v, %v, want %+v", state, got, err, stored)
		}
	}
	return counts(ctx, s, courier.Counts{Dead: 1})
}

func appendConflict(ctx context.Context, s courier.Store) error {
	all, err := fill(ctx, s, 0, 1)
	if err != nil {
		return err
	}
	for _, change := range []func(*courier.Receipt){
		func(r *courier.Receipt) { r.Bundle[5]++ },
		func(r *courier.Receipt) { r.Size++ },
		func(r *courier.Receipt) { r.Sender += "x" },
	} {
		other := receipt(0)
		change(&other)
		if got, err := s.Append(ctx, other); !errors.Is(err, courier.ErrConflict) || got != all[0] {
			return fmt.Errorf("Append of other content = %+v, %v, want the stored one, ErrConflict", got, err)
		}
	}
	return errors.Join(get(ctx, s, all[0]), expect(ctx, s, courier.Pending, 0, all[0]))
}

func appendInvalid(ctx context.Context, s courier.Store) error {
	for _, sender := range []string{"", "\xff", strings.Repeat("x", courier.MaxSender+1)} {
		r := receipt(0)
		r.Sender = sender
		if _, err := s.Append(ctx, r); !errors.Is(err, courier.ErrInvalid) {
			return fmt.Errorf("Append for sender %q: %v, want ErrInvalid", sender, err)
		}
	}
	r := receipt(0)
	r.Size = -1
	if _, err := s.Append(ctx, r); !errors.Is(err, courier.ErrInvalid) {
		return fmt.Errorf("Append of size -1: %v, want ErrInvalid", err)
	}
	return counts(ctx, s, courier.Counts{})
}

func appendAtOnce(ctx context.Context, s courier.Store) error {
	const n, callers = 20, 8
	var wg sync.WaitGroup
	errs := make([]error, callers)
	seqs := make([][n]uint64, callers)
	for c := range callers {
		wg.Go(func() {
			for i := range n {
				r, err := s.Append(ctx, receipt((i+c)%n))
				errs[c] = errors.Join(errs[c], err)
				seqs[c][(i+c)%n] = r.Seq
			}
		})
	}
	wg.Wait()
	for _, row := range seqs {
		if row != seqs[0] {
			return fmt.Errorf("callers at once were given different places: %v and %v", row, seqs[0])
		}
	}
	return errors.Join(errors.Join(errs...), counts(ctx, s, courier.Counts{Pending: n}))
}

func listInOrder(ctx context.Context, s courier.Store) error {
	all, err := fill(ctx, s, 0, 300)
	if err != nil {
		return err
	}
	for range s.List(ctx, courier.Pending, 0) {
		break
	}
	for _, err := range s.List(ctx, 77, 0) {
		if !errors.Is(err, courier.ErrInvalid) {
			return fmt.Errorf("List of state 77: %v, want ErrInvalid", err)
		}
	}
	return errors.Join(
		expect(ctx, s, courier.Pending, 0, all...),
		expect(ctx, s, courier.Acknowledged, 0),
		expect(ctx, s, courier.Dead, 0))
}

func listFrom(ctx context.Context, s courier.Store) error {
	all, err := fill(ctx, s, 0, 10)
	if err != nil {
		return err
	}
	if err := apply(ctx, s, 4, to(courier.Acknowledged, all[:4]...)...); err != nil {
		return err
	}
	return errors.Join(
		expect(ctx, s, courier.Pending, 0, all[4:]...),
		expect(ctx, s, courier.Pending, all[2].Seq, all[4:]...),
		expect(ctx, s, courier.Pending, all[7].Seq, all[7:]...),
		expect(ctx, s, courier.Pending, all[9].Seq+1),
		expect(ctx, s, courier.Pending, 0, all[4:]...))
}

// listAsItStood: what stays in the list is shown once, what leaves it at most
// once and as it stood, and what is appended meanwhile not at all.
func listAsItStood(ctx context.Context, s courier.Store) error {
	const n = 50
	all, err := fill(ctx, s, 0, n)
	if err != nil {
		return err
	}
	next, left, steps := 0, n, 0 // receipts from left on have left the list
	for r, err := range s.List(ctx, courier.Pending, 0) {
		if err != nil {
			return err
		}
		for next >= left && next < n && r != all[next] {
			next++
		}
		if next >= n || r != all[next] {
			return fmt.Errorf("receipt %d of a list that changes: %+v", next, r)
		}
		next++
		steps++
		if _, err := fill(ctx, s, 100+steps, 101+steps); err != nil {
			return err
		}
		if left == 0 {
			continue
		}
		left--
		if err := apply(ctx, s, 1, to(courier.Acknowledged, all[left])...); err != nil {
			return err
		}
	}
	if next < left {
		return fmt.Errorf("%d receipts of a list that changes, want %d or more", next, left)
	}
	return counts(ctx, s, courier.Counts{Pending: uint64(left + steps), Acknowledged: uint64(n - left)})
}

func move(ctx context.Context, s courier.Store) error {
	all, err := fill(ctx, s, 0, 6)
	if err != nil {
		return err
	}
	moves := append(to(courier.Acknowledged, all[4], all[1]), append(to(courier.Dead, all[3]), to(courier.Gone, all[0])...)...)
	if err := apply(ctx, s, 4, moves...); err != nil {
		return err
	}
	var moved [3]courier.Receipt
	for i, m := range moves[:3] {
		want := m.Receipt
		want.State, want.Since, want.Cause, want.Reason = m.To, m.At, m.Cause, m.Reason
		got, err := s.Get(ctx, want.ID)
		if err != nil || got != want {
			return fmt.Errorf("moved: %+v, %v, want %+v", got, err, want)
		}
		moved[i] = got
	}
	if _, err := s.Get(ctx, all[0].ID); !errors.Is(err, courier.ErrNotFound) {
		return fmt.Errorf("Get of a deleted receipt: %v, want ErrNotFound", err)
	}
	if err := errors.Join(
		expect(ctx, s, courier.Pending, 0, all[2], all[5]),
		expect(ctx, s, courier.Acknowledged, 0, moved[1], moved[0]),
		expect(ctx, s, courier.Dead, 0, moved[2]),
		counts(ctx, s, courier.Counts{Pending: 2, Acknowledged: 2, Dead: 1}),
	); err != nil {
		return err
	}
	again, err := s.Append(ctx, receipt(0)) // deleted, so new
	if err == nil && again.Seq <= all[5].Seq {
		err = fmt.Errorf("a new receipt has Seq %d, %d was given before", again.Seq, all[5].Seq)
	}
	return err
}

func moveOnce(ctx context.Context, s courier.Store) error {
	all, err := fill(ctx, s, 0, 2)
	if err != nil {
		return err
	}
	return errors.Join(
		apply(ctx, s, 0),
		apply(ctx, s, 1, append(to(courier.Acknowledged, all[0]), to(courier.Dead, all[0])...)...),
		apply(ctx, s, 1, to(courier.Gone, all[1], all[1])...),
		counts(ctx, s, courier.Counts{Acknowledged: 1}))
}

// moveOnceInAGroup: what moveOnce says holds whatever other calls come at once,
// also where the second move says where the first one took the receipt.
func moveOnceInAGroup(ctx context.Context, s courier.Store) error {
	const n = 64
	all, err := fill(ctx, s, 0, n)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i, r := range all {
		wg.Go(func() {
			moved := r
			moved.State = courier.Acknowledged
			errs[i] = apply(ctx, s, 1, append(to(courier.Acknowledged, r), to(courier.Dead, moved)...)...)
		})
	}
	wg.Wait()
	return errors.Join(errors.Join(errs...), counts(ctx, s, courier.Counts{Acknowledged: n}))
}

func moveStale(ctx context.Context, s courier.Store) error {
	all, err := fill(ctx, s, 0, 3)
	if err != nil {
		return err
	}
	if err := apply(ctx, s, 1, to(courier.Dead, all[0])...); err != nil {
		return err
	}
	other, wrong := all[1], all[1]
	other.ID, wrong.Seq = receipt(9).ID, all[2].Seq
	return errors.Join(
		apply(ctx, s, 1, to(courier.Acknowledged, all[0], other, wrong, all[2])...),
		counts(ctx, s, courier.Counts{Pending: 1, Acknowledged: 1, Dead: 1}),
		get(ctx, s, all[1]))
}

func moveInvalid(ctx context.Context, s courier.Store) error {
	all, err := fill(ctx, s, 0, 2)
	if err != nil {
		return err
	}
	good := to(courier.Acknowledged, all[0])[0]
	for _, bad := range []courier.Move{
		{Receipt: all[1], To: 9},
		{Receipt: all[1], To: courier.Dead},
		{Receipt: all[1], To: courier.Dead, Cause: courier.Expired, Reason: "\xff"},
		{Receipt: all[1], To: courier.Dead, Cause: courier.Expired, Reason: strings.Repeat("x", courier.MaxReason+1)},
	} {
		if n, err := s.Move(ctx, []courier.Move{good, bad}); n != 0 || !errors.Is(err, courier.ErrInvalid) {
			return fmt.Errorf("Move(%+v) = %d, %v, want 0, ErrInvalid", bad, n, err)
		}
	}
	return counts(ctx, s, courier.Counts{Pending: 2})
}

func moveAtOnce(ctx context.Context, s courier.Store) error {
	const n, callers = 40, 8
	all, err := fill(ctx, s, 0, n)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, callers)
	applied := make([]int, callers)
	for c := range callers {
		wg.Go(func() {
			for i := range n {
				state := courier.Acknowledged
				if c%2 == 1 {
					state = courier.Dead
				}
				k, err := s.Move(ctx, to(state, all[i]))
				applied[c] += k
				errs[c] = errors.Join(errs[c], err)
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, k := range applied {
		sum += k
	}
	if sum != n {
		return fmt.Errorf("%d receipts were moved %d times", n, sum)
	}
	got, err := s.Count(ctx)
	if got.Acknowledged+got.Dead != n || got.Pending != 0 {
		return fmt.Errorf("Count = %+v after %d moves", got, n)
	}
	return errors.Join(errors.Join(errs...), err)
}

func requeue(ctx context.Context, s courier.Store) error {
	all, err := fill(ctx, s, 0, 3)
	if err != nil {
		return err
	}
	if err := apply(ctx, s, 1, to(courier.Dead, all[0])...); err != nil {
		return err
	}
	dead, err := s.Get(ctx, all[0].ID)
	if err != nil {
		return err
	}
	if err := expect(ctx, s, courier.Pending, 0, all[1:]...); err != nil {
		return err // after this walk, too, the list must show what comes back
	}
	if err := apply(ctx, s, 1, to(courier.Pending, dead)...); err != nil {
		return err
	}
	back, err := s.Get(ctx, dead.ID)
	if err != nil || back.Cause != 0 || back.Reason != "" {
		return fmt.Errorf("requeued: %+v, %v", back, err)
	}
	return errors.Join(
		expect(ctx, s, courier.Pending, 0, back, all[1], all[2]),
		expect(ctx, s, courier.Dead, 0),
		counts(ctx, s, courier.Counts{Pending: 3}))
}

func needs(ctx context.Context, s courier.Store) error {
	index, ok := s.(courier.BundleIndex)
	if !ok {
		return nil
	}
	all, err := fill(ctx, s, 0, 6) // 0 and 3 share a bundle
	if err != nil {
		return err
	}
	want := func(want bool, when string) error {
		got, err := index.Needs(ctx, all[0].Bundle)
		if err != nil || got != want {
			return fmt.Errorf("Needs = %v, %v, want %v: %s", got, err, want, when)
		}
		return nil
	}
	get := func() courier.Receipt {
		r, _ := s.Get(ctx, all[3].ID)
		return r
	}
	return errors.Join(
		want(true, "two are pending"),
		apply(ctx, s, 1, to(courier.Acknowledged, all[0])...),
		want(true, "one is pending, one acknowledged"),
		apply(ctx, s, 1, to(courier.Dead, all[3])...),
		want(true, "one is dead, one acknowledged"),
		apply(ctx, s, 1, to(courier.Pending, get())...),
		want(true, "one is pending again"),
		apply(ctx, s, 1, to(courier.Acknowledged, get())...),
		want(false, "both are acknowledged"),
		func() error {
			if got, err := index.Needs(ctx, receipt(4).Bundle); !got || err != nil {
				return fmt.Errorf("Needs = %v, %v for another bundle", got, err)
			}
			return apply(ctx, s, 1, to(courier.Acknowledged, all[1])...)
		}(),
		func() error { // the receipt 4 of the same bundle does not carry it
			if got, err := index.Needs(ctx, receipt(4).Bundle); got || err != nil {
				return fmt.Errorf("Needs = %v, %v for a bundle that is not carried", got, err)
			}
			return nil
		}(),
		apply(ctx, s, 1, to(courier.Gone, get())...),
		want(false, "one is gone"))
}

func cancelled(ctx context.Context, s courier.Store) error {
	all, err := fill(ctx, s, 0, 1)
	if err != nil {
		return err
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	_, err1 := s.Append(over, receipt(1))
	_, err2 := s.Get(over, all[0].ID)
	_, err3 := s.Move(over, to(courier.Gone, all[0]))
	var err4 error
	for _, err4 = range s.List(over, courier.Pending, 0) {
	}
	_, err5 := s.Count(over)
	for i, err := range []error{err1, err2, err3, err4, err5} {
		if !errors.Is(err, context.Canceled) {
			return fmt.Errorf("after cancel, call %d of Append, Get, Move, List, Count: %v", i+1, err)
		}
	}
	return expect(ctx, s, courier.Pending, 0, all...)
}

// times: whatever times are given, those that come back are to the microsecond
// and in UTC, from every method the same, and once more from a store that was
// opened again.
func times(ctx context.Context, dir string, open Open) error {
	zone := time.FixedZone("east", 3600)
	given := receipt(0)
	given.SentAt = epoch.Add(789 * time.Nanosecond).In(zone)
	var stored [3]courier.Receipt
	if err := with(func(ctx context.Context, s courier.Store) error {
		first, err := s.Append(ctx, given)
		if err != nil {
			return err
		}
		if first.SentAt != epoch || first.Since != epoch {
			return fmt.Errorf("Append of a receipt sent at %v: %+v, want %v", given.SentAt, first, epoch)
		}
		old := receipt(1)
		old.SentAt = time.Time{}
		second, err := s.Append(ctx, old)
		if err != nil {
			return err
		}
		before := receipt(2)
		before.SentAt = time.Unix(-1, 999_999_999) // rounds down, also before 1970
		third, err := s.Append(ctx, before)
		if err != nil {
			return err
		}
		if want := time.UnixMicro(-1).UTC(); third.SentAt != want {
			return fmt.Errorf("Append of a receipt sent at %v: %+v, want %v", before.SentAt, third, want)
		}
		if err := expect(ctx, s, courier.Pending, 0, first, second, third); err != nil {
			return err
		}
		m := to(courier.Dead, first)[0]
		m.At = epoch.Add(time.Hour + 789*time.Nanosecond).In(zone)
		if err := apply(ctx, s, 1, m); err != nil {
			return err
		}
		moved, err := s.Get(ctx, first.ID)
		if err != nil {
			return err
		}
		if want := epoch.Add(time.Hour); moved.Since != want || moved.SentAt != epoch {
			return fmt.Errorf("moved at %v: %+v, want %v", m.At, moved, want)
		}
		stored = [3]courier.Receipt{moved, second, third}
		return nil
	})(ctx, dir, open); err != nil {
		return err
	}
	return with(func(ctx context.Context, s courier.Store) error {
		return errors.Join(
			expect(ctx, s, courier.Dead, 0, stored[0]), expect(ctx, s, courier.Pending, 0, stored[1:]...),
			get(ctx, s, stored[0]), get(ctx, s, stored[1]))
	})(ctx, dir, open)
}

// note is the contract of courier.Notebook.
func note(ctx context.Context, dir string, open Open) error {
	longest := make([]byte, courier.MaxNote)
	for i := range longest {
		longest[i] = byte(i)
	}
	want := func(s courier.Store, note []byte, last uint64) error {
		got, n, err := s.(courier.Notebook).Note(ctx)
		if err != nil || !bytes.Equal(got, note) || n != last {
			return fmt.Errorf("Note = %.20x of %d bytes, %d, %v, want %d bytes, %d", got, len(got), n, err, len(note), last)
		}
		clear(got) // it is the caller's
		return nil
	}
	var last uint64
	if err := with(func(ctx context.Context, s courier.Store) error {
		book, ok := s.(courier.Notebook)
		if !ok {
			return nil
		}
		if err := want(s, nil, 0); err != nil {
			return err
		}
		all, err := fill(ctx, s, 0, 3)
		if err != nil {
			return err
		}
		last = all[2].Seq
		ended, cancel := context.WithCancel(ctx)
		cancel()
		given := []byte("a note")
		if err := book.SetNote(ctx, given); err != nil {
			return fmt.Errorf("SetNote: %w", err)
		}
		clear(given)
		if err := errors.Join(want(s, []byte("a note"), last), want(s, []byte("a note"), last)); err != nil {
			return err
		}
		if err := book.SetNote(ctx, append(longest, 0)); !errors.Is(err, courier.ErrInvalid) {
			return fmt.Errorf("SetNote of %d bytes: %v, want ErrInvalid", len(longest)+1, err)
		}
		if err := book.SetNote(ended, nil); !errors.Is(err, context.Canceled) {
			return fmt.Errorf("SetNote after cancel: %w", err)
		}
		if _, _, err := book.Note(ended); !errors.Is(err, context.Canceled) {
			return fmt.Errorf("Note after cancel: %w", err)
		}
		if err := errors.Join(want(s, []byte("a note"), last), book.SetNote(ctx, longest)); err != nil {
			return err
		}
		// The greatest Seq stays the greatest when its receipt goes.
		return errors.Join(apply(ctx, s, 3, to(courier.Gone, all...)...), want(s, longest, last))
	})(ctx, dir, open); err != nil {
		return err
	}
	return with(func(ctx context.Context, s courier.Store) error {
		book, ok := s.(courier.Notebook)
		if !ok {
			return nil
		}
		return errors.Join(want(s, longest, last), book.SetNote(ctx, nil), want(s, nil, last), counts(ctx, s, courier.Counts{}))
	})(ctx, dir, open)
}

func reopen(ctx context.Context, dir string, open Open) error {
	s, err := open(dir)
	if err != nil {
		return err
	}
	all, err := fill(ctx, s, 0, 6)
	if err != nil {
		return err
	}
	if err := errors.Join(
		apply(ctx, s, 2, to(courier.Acknowledged, all[0], all[5])...),
		apply(ctx, s, 1, to(courier.Dead, all[1])...)); err != nil {
		return err
	}
	last, err := s.Get(ctx, all[5].ID)
	if err != nil {
		return err
	}
	if err := apply(ctx, s, 1, to(courier.Gone, last)...); err != nil {
		return err
	}
	acknowledged, err1 := s.Get(ctx, all[0].ID)
	dead, err2 := s.Get(ctx, all[1].ID)
	if err := errors.Join(err1, err2, shut(s)); err != nil {
		return err
	}
	if s, err = open(dir); err != nil {
		return fmt.Errorf("open again: %w", err)
	}
	next, err := s.Append(ctx, receipt(7))
	if err == nil && next.Seq <= last.Seq {
		err = fmt.Errorf("after reopening Seq %d was given, before it %d", next.Seq, last.Seq)
	}
	return errors.Join(err,
		expect(ctx, s, courier.Pending, 0, all[2], all[3], all[4], next),
		expect(ctx, s, courier.Acknowledged, 0, acknowledged),
		expect(ctx, s, courier.Dead, 0, dead),
		counts(ctx, s, courier.Counts{Pending: 4, Acknowledged: 1, Dead: 1}),
		shut(s))
}

func closed(ctx context.Context, dir string, open Open) error {
	s, err := open(dir)
	if err != nil {
		return err
	}
	c, ok := s.(io.Closer)
	if !ok {
		return nil
	}
	all, err := fill(ctx, s, 0, 1)
	if err != nil {
		return err
	}
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		return fmt.Errorf("close twice: %w", err)
	}
	_, err1 := s.Append(ctx, receipt(1))
	_, err2 := s.Get(ctx, all[0].ID)
	_, err3 := s.Move(ctx, to(courier.Gone, all[0]))
	_, err4 := s.Count(ctx)
	var err5 error
	for _, err5 = range s.List(ctx, courier.Pending, 0) {
	}
	errs := []error{err1, err2, err3, err4, err5}
	if book, ok := s.(courier.Notebook); ok {
		_, _, err := book.Note(ctx)
		errs = append(errs, err, book.SetNote(ctx, nil))
	}
	if index, ok := s.(courier.BundleIndex); ok {
		_, err := index.Needs(ctx, all[0].Bundle)
		errs = append(errs, err)
	}
	for i, err := range errs {
		if !errors.Is(err, courier.ErrClosed) {
			return fmt.Errorf("after Close, call %d of Append, Get, Move, Count, List, Note, SetNote, Needs: %v", i+1, err)
		}
	}
	return nil
}
