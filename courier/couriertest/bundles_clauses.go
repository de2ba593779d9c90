package couriertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/computemarket/computemarket/courier"
)

var bundlesClauses = []BundlesClause{
	{"PutAndOpen", withBundles(putAndOpen)},
	{"PutAgain", withBundles(putAgain)},
	{"PutLarge", withBundles(putLarge)},
	{"NothingBeforeCommit", withBundles(nothingBeforeCommit)},
	{"Abort", withBundles(abort)},
	{"EndsOnce", withBundles(endsOnce)},
	{"Remove", withBundles(remove)},
	{"List", withBundles(listAll)},
	{"AtOnce", withBundles(atOnce)},
	{"Damage", withBundles(mend)},
	{"Cancelled", withBundles(cancelledBundles)},
	{"Durable", durableBundles},
	{"SecondUser", secondUser},
	{"Closed", closedBundles},
}

func withBundles(check func(context.Context, courier.Bundles) error) func(context.Context, string, OpenBundles) error {
	return func(ctx context.Context, dir string, open OpenBundles) error {
		b, err := open(dir)
		if err != nil {
			return err
		}
		return errors.Join(check(ctx, b), shutBundles(b))
	}
}

func putAndOpen(ctx context.Context, b courier.Bundles) error {
	for _, content := range []string{"content", "", "x"} {
		err := holdsNo(ctx, b, hashOf(content))
		if err == nil {
			_, err = store(ctx, b, content)
		}
		if err = errors.Join(err, holds(ctx, b, content)); err != nil {
			return err
		}
	}
	return errors.Join(holds(ctx, b, "content"), holds(ctx, b, "content")) // each Open begins at the start
}

func putAgain(ctx context.Context, b courier.Bundles) error {
	for range 3 {
		h, err := store(ctx, b, "content")
		if err = errors.Join(err, holds(ctx, b, "content"), lists(ctx, b, h)); err != nil {
			return err
		}
	}
	return nil
}

func putLarge(ctx context.Context, b courier.Bundles) error {
	large := strings.Repeat("0123456789", 300_000)
	w, err := b.Create(ctx)
	if err == nil {
		_, err = io.Copy(w, struct{ io.Reader }{strings.NewReader(large)}) // in pieces
	}
	if err == nil {
		err = w.Commit(hashOf(large))
	}
	if err != nil {
		return err
	}
	got, err := load(ctx, b, hashOf(large))
	if err != nil || got != large {
		return fmt.Errorf("%d bytes, %v, of a bundle of %d", len(got), err, len(large))
	}
	return nil
}

func nothingBeforeCommit(ctx context.Context, b courier.Bundles) error {
	h := hashOf("content")
	w, err := begin(ctx, b, "content")
	if err != nil {
		return err
	}
	if err := errors.Join(holdsNo(ctx, b, h), lists(ctx, b)); err != nil {
		return fmt.Errorf("before Commit: %w", err)
	}
	if err := w.Commit(h); err != nil {
		return fmt.Errorf("Commit: %w", err)
	}
	return errors.Join(holds(ctx, b, "content"), lists(ctx, b, h))
}

func abort(ctx context.Context, b courier.Bundles) error {
	kept, err := store(ctx, b, "kept")
	if err != nil {
		return err
	}
	for range 2 {
		w, err := begin(ctx, b, "content")
		if err != nil {
			return err
		}
		if err := errors.Join(w.Abort(), w.Abort()); err != nil {
			return fmt.Errorf("Abort: %w", err)
		}
	}
	return errors.Join(holdsNo(ctx, b, hashOf("content")), holds(ctx, b, "kept"), lists(ctx, b, kept))
}

func endsOnce(ctx context.Context, b courier.Bundles) error {
	aborted, err := begin(ctx, b, "content")
	if err != nil {
		return err
	}
	if err := aborted.Abort(); err != nil {
		return fmt.Errorf("Abort: %w", err)
	}
	if err := aborted.Commit(hashOf("content")); err == nil {
		return errors.New("Commit after Abort: nil, want an error")
	}
	if err := holdsNo(ctx, b, hashOf("content")); err != nil {
		return err
	}
	w, err := begin(ctx, b, "content")
	if err != nil {
		return err
	}
	if err := w.Commit(hashOf("content")); err != nil {
		return fmt.Errorf("Commit: %w", err)
	}
	if err := w.Commit(hashOf("other")); err == nil {
		return errors.New("Commit again, under another hash: nil, want an error")
	}
	if err := w.Abort(); err != nil {
		return fmt.Errorf("Abort after Commit: %w", err)
	}
	return errors.Join(holds(ctx, b, "content"), lists(ctx, b, hashOf("content")))
}

func remove(ctx context.Context, b courier.Bundles) error {
	h, err := store(ctx, b, "content")
	if err != nil {
		return err
	}
	other, err := store(ctx, b, "other")
	if err != nil {
		return err
	}
	for range 2 { // the second finds nothing, which is no error
		if err := b.Remove(ctx, h); err != nil {
			return fmt.Errorf("Remove: %w", err)
		}
		if err := errors.Join(holdsNo(ctx, b, h), holds(ctx, b, "other"), lists(ctx, b, other)); err != nil {
			return err
		}
	}
	_, err = store(ctx, b, "content")
	return errors.Join(err, holds(ctx, b, "content"))
}

func listAll(ctx context.Context, b courier.Bundles) error {
	if err := lists(ctx, b); err != nil {
		return err
	}
	var all []courier.Hash
	for i := range 300 {
		h, err := store(ctx, b, fmt.Sprint(i))
		if err != nil {
			return err
		}
		all = append(all, h)
	}
	for range b.All(ctx) {
		break
	}
	if err := lists(ctx, b, all...); err != nil {
		return err
	}
	for h, err := range b.All(ctx) { // from the body of the loop everything may be called
		if err == nil {
			err = b.Remove(ctx, h)
		}
		if err != nil {
			return fmt.Errorf("Remove while All runs: %w", err)
		}
	}
	return lists(ctx, b)
}

func atOnce(ctx context.Context, b courier.Bundles) error {
	const callers, rounds = 8, 10
	var wg sync.WaitGroup
	errs := make([]error, callers)
	for c := range callers {
		wg.Go(func() {
			for i := range rounds {
				own := fmt.Sprint("of caller ", c, " ", i)
				h, err := store(ctx, b, own)
				_, shared := store(ctx, b, fmt.Sprint("shared ", i))
				err = errors.Join(err, shared, holds(ctx, b, own), holds(ctx, b, fmt.Sprint("shared ", i)))
				if err == nil && i%2 == 0 {
					err = errors.Join(b.Remove(ctx, h), holdsNo(ctx, b, h))
				}
				errs[c] = errors.Join(errs[c], err)
			}
		})
	}
	wg.Wait()
	var want []courier.Hash
	for i := range rounds {
		want = append(want, hashOf(fmt.Sprint("shared ", i)))
		for c := range callers {
			if i%2 == 1 {
				want = append(want, hashOf(fmt.Sprint("of caller ", c, " ", i)))
			}
		}
	}
	return errors.Join(errors.Join(errs...), lists(ctx, b, want...))
}

// mend: what is damaged is not there as if it were whole, nor as if it had never
// been there, and the same bundle put again is whole.
func mend(ctx context.Context, b courier.Bundles) error {
	d, ok := b.(interface{ Damage(courier.Hash) error })
	if !ok {
		return nil
	}
	h, err := store(ctx, b, "content")
	if err != nil {
		return err
	}
	if err := d.Damage(h); err != nil {
		return fmt.Errorf("Damage: %w", err)
	}
	if got, err := load(ctx, b, h); err == nil && got == "content" || errors.Is(err, courier.ErrNotFound) {
		return fmt.Errorf("a damaged bundle: %q, %v", got, err)
	}
	_, err = store(ctx, b, "content")
	return errors.Join(err, holds(ctx, b, "content"))
}

func cancelledBundles(ctx context.Context, b courier.Bundles) error {
	h, err := store(ctx, b, "content")
	if err != nil {
		return err
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, create := b.Create(ended)
	_, open := b.Open(ended, h)
	var all error
	for _, err := range b.All(ended) {
		all = err
	}
	errs := []error{create, open, b.Remove(ended, h), all}
	for i, name := range []string{"Create", "Open", "Remove", "All"} {
		if !errors.Is(errs[i], context.Canceled) {
			return fmt.Errorf("%s with a context that has ended: %v", name, errs[i])
		}
	}
	return holds(ctx, b, "content")
}

// durableBundles opens what was kept again. That it outlasts a crash too, the
// suite cannot see.
func durableBundles(ctx context.Context, dir string, open OpenBundles) error {
	b, err := open(dir)
	if err != nil {
		return err
	}
	kept, err := store(ctx, b, "content")
	if err != nil {
		return err
	}
	removed, err := store(ctx, b, "removed")
	if err == nil {
		err = b.Remove(ctx, removed)
	}
	if err == nil {
		_, err = begin(ctx, b, "never committed")
	}
	if err = errors.Join(err, shutBundles(b)); err != nil {
		return err
	}
	if b, err = open(dir); err != nil {
		return fmt.Errorf("open again: %w", err)
	}
	err = errors.Join(holds(ctx, b, "content"), holdsNo(ctx, b, removed), lists(ctx, b, kept))
	return errors.Join(err, shutBundles(b))
}

// secondUser: of two users of one place the second is refused with ErrLocked, or
// served; the first is not disturbed.
func secondUser(ctx context.Context, dir string, open OpenBundles) error {
	first, err := open(dir)
	if err != nil {
		return err
	}
	w, err := begin(ctx, first, "content")
	if err != nil {
		return err
	}
	second, err := open(dir)
	if err == nil {
		_, err = store(ctx, second, "of the second")
		if err == nil {
			err = errors.Join(holds(ctx, first, "of the second"), shutBundles(second))
		}
	}
	if err != nil && !errors.Is(err, courier.ErrLocked) {
		return fmt.Errorf("the second user: %w, want ErrLocked", err)
	}
	if err := w.Commit(hashOf("content")); err != nil {
		return fmt.Errorf("the first user's Commit, with a second: %w", err)
	}
	return errors.Join(holds(ctx, first, "content"), shutBundles(first))
}

func closedBundles(ctx context.Context, dir string, open OpenBundles) error {
	b, err := open(dir)
	if err != nil {
		return err
	}
	c, ok := b.(io.Closer)
	if !ok {
		return nil
	}
	w, err := begin(ctx, b, "content")
	if err != nil {
		return err
	}
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		return fmt.Errorf("closing: %w", err)
	}
	_, create := b.Create(ctx)
	_, opened := b.Open(ctx, hashOf("content"))
	var all error
	for _, err := range b.All(ctx) {
		all = err
	}
	errs := []error{create, opened, b.Remove(ctx, hashOf("content")), all, w.Commit(hashOf("content"))}
	for i, name := range []string{"Create", "Open", "Remove", "All", "Commit"} {
		if !errors.Is(errs[i], courier.ErrClosed) {
			return fmt.Errorf("%s after Close: %v, want ErrClosed", name, errs[i])
		}
	}
	if b, err = open(dir); err != nil {
		return fmt.Errorf("open again: %w", err)
	}
	return errors.Join(lists(ctx, b), shutBundles(b))
}
