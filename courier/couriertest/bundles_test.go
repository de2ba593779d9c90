package couriertest

import (
	"context"
	"io"
	"iter"
	"slices"
	"sync"
	"testing"

	"github.com/computemarket/computemarket/courier"
)

func TestBundlesModel(t *testing.T) { RunBundles(t, bundlesModels()) }

// bundlesModels returns an OpenBundles for which a folder's model is always the
// same one.
func bundlesModels() OpenBundles {
	byDir := map[string]*BundlesModel{}
	return func(dir string) (courier.Bundles, error) {
		if byDir[dir] == nil {
			byDir[dir] = new(BundlesModel)
		}
		return byDir[dir], nil
	}
}

// Each broken one must fail the clause that it breaks.
func TestBrokenBundles(t *testing.T) {
	good := bundlesModels()
	for name, broken := range map[string]struct {
		clause string
		wrap   func(*BundlesModel) courier.Bundles
	}{
		"keeps no empty bundle":        {"PutAndOpen", func(m *BundlesModel) courier.Bundles { return noEmpty{m} }},
		"refuses what is there":        {"PutAgain", func(m *BundlesModel) courier.Bundles { return once{m} }},
		"cuts":                         {"PutLarge", func(m *BundlesModel) courier.Bundles { return cuts{m} }},
		"keeps the caller's slices":    {"PutAndOpen", func(m *BundlesModel) courier.Bundles { return aliases{m} }},
		"keeps what was aborted":       {"Abort", func(m *BundlesModel) courier.Bundles { return neverAborts{m} }},
		"commits twice":                {"EndsOnce", func(m *BundlesModel) courier.Bundles { return commitsTwice{m} }},
		"removes by the first byte":    {"AtOnce", func(m *BundlesModel) courier.Bundles { return removesMore{m} }},
		"minds what is not there":      {"Remove", func(m *BundlesModel) courier.Bundles { return minds{m} }},
		"lists twice":                  {"List", func(m *BundlesModel) courier.Bundles { return listsTwice{m} }},
		"skips what is there":          {"Damage", func(m *BundlesModel) courier.Bundles { return skips{m} }},
		"carries on when cancelled":    {"Cancelled", func(m *BundlesModel) courier.Bundles { return deaf{m} }},
		"forgets":                      {"Durable", nil},
		"shares one unfinished bundle": {"SecondUser", func(m *BundlesModel) courier.Bundles { return shares{m} }},
		"answers after Close":          {"Closed", func(m *BundlesModel) courier.Bundles { return open{m} }},
	} {
		t.Run(name, func(t *testing.T) {
			opened := func(dir string) (courier.Bundles, error) {
				if broken.wrap == nil {
					return new(BundlesModel), nil
				}
				b, err := good(dir)
				return broken.wrap(b.(*BundlesModel)), err
			}
			for _, c := range BundlesClauses() {
				if c.Name != broken.clause {
					continue
				}
				err := c.Check(t.Context(), t.TempDir(), opened)
				if err == nil {
					t.Errorf("passes %s", c.Name)
				}
				t.Log(err)
				return
			}
			t.Errorf("no clause %s", broken.clause)
		})
	}
}

// A hooked writer ends differently.
type hooked struct {
	*modelWriter
	write  func(p []byte) (int, error)
	commit func(courier.Hash) error
	abort  func() error
}

func (w hooked) Write(p []byte) (int, error) {
	if w.write != nil {
		return w.write(p)
	}
	return w.modelWriter.Write(p)
}

func (w hooked) Commit(h courier.Hash) error {
	if w.commit != nil {
		return w.commit(h)
	}
	return w.modelWriter.Commit(h)
}

func (w hooked) Abort() error {
	if w.abort != nil {
		return w.abort()
	}
	return w.modelWriter.Abort()
}

type noEmpty struct{ *BundlesModel }

func (b noEmpty) Create(context.Context) (courier.BundleWriter, error) {
	w := &modelWriter{m: b.BundlesModel}
	return hooked{modelWriter: w, commit: func(h courier.Hash) error {
		if len(w.content) == 0 {
			return nil
		}
		return w.Commit(h)
	}}, nil
}

type once struct{ *BundlesModel }

func (b once) Create(context.Context) (courier.BundleWriter, error) {
	w := &modelWriter{m: b.BundlesModel}
	return hooked{modelWriter: w, commit: func(h courier.Hash) error {
		if _, err := b.Open(context.Background(), h); err == nil {
			return courier.ErrConflict
		}
		return w.Commit(h)
	}}, nil
}

type cuts struct{ *BundlesModel }

func (b cuts) Create(context.Context) (courier.BundleWriter, error) {
	w := &modelWriter{m: b.BundlesModel}
	return hooked{modelWriter: w, write: func(p []byte) (int, error) {
		if len(w.content) > 1<<20 {
			return len(p), nil
		}
		return w.Write(p)
	}}, nil
}

type aliases struct{ *BundlesModel }

func (b aliases) Create(context.Context) (courier.BundleWriter, error) {
	w := &modelWriter{m: b.BundlesModel}
	var parts [][]byte
	return hooked{modelWriter: w, write: func(p []byte) (int, error) {
		parts = append(parts, p)
		return len(p), nil
	}, commit: func(h courier.Hash) error {
		w.Write(slices.Concat(parts...))
		return w.Commit(h)
	}}, nil
}

type neverAborts struct{ *BundlesModel }

func (b neverAborts) Create(context.Context) (courier.BundleWriter, error) {
	w := &modelWriter{m: b.BundlesModel}
	return hooked{modelWriter: w, abort: func() error {
		if !w.done {
			return w.Commit(hashOf(string(w.content)))
		}
		return nil
	}}, nil
}

type commitsTwice struct{ *BundlesModel }

func (b commitsTwice) Create(context.Context) (courier.BundleWriter, error) {
	w := &modelWriter{m: b.BundlesModel}
	return hooked{modelWriter: w, commit: func(h courier.Hash) error {
		w.done = false
		return w.Commit(h)
	}}, nil
}

type removesMore struct{ *BundlesModel }

func (b removesMore) Remove(ctx context.Context, h courier.Hash) error {
	for each := range b.All(ctx) {
		if each[0]>>4 == h[0]>>4 {
			b.BundlesModel.Remove(ctx, each)
		}
	}
	return ctx.Err()
}

type minds struct{ *BundlesModel }

func (b minds) Remove(ctx context.Context, h courier.Hash) error {
	if _, err := b.Open(ctx, h); err != nil {
		return err
	}
	return b.BundlesModel.Remove(ctx, h)
}

type listsTwice struct{ *BundlesModel }

func (b listsTwice) All(ctx context.Context) iter.Seq2[courier.Hash, error] {
	return func(yield func(courier.Hash, error) bool) {
		for h, err := range b.BundlesModel.All(ctx) {
			for range 2 {
				if !yield(h, err) {
					return
				}
			}
		}
	}
}

type skips struct{ *BundlesModel }

func (b skips) Create(context.Context) (courier.BundleWriter, error) {
	w := &modelWriter{m: b.BundlesModel}
	return hooked{modelWriter: w, commit: func(h courier.Hash) error {
		if _, err := b.Open(context.Background(), h); err == nil {
			return nil
		}
		return w.Commit(h)
	}}, nil
}

type deaf struct{ *BundlesModel }

func (b deaf) Remove(ctx context.Context, h courier.Hash) error {
	return b.BundlesModel.Remove(context.WithoutCancel(ctx), h)
}

// shares is a place in which whoever begins drops what others have begun.
type shares struct{ *BundlesModel }

var unfinished sync.Map // by model

func (b shares) Create(context.Context) (courier.BundleWriter, error) {
	w := &modelWriter{m: b.BundlesModel}
	if old, ok := unfinished.Swap(b.BundlesModel, w); ok {
		old.(*modelWriter).content = nil
	}
	return w, nil
}

type open struct{ *BundlesModel }

func (open) Close() error { return nil }

var _ io.Closer = open{}
