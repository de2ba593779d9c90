package couriertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"sync"
	"testing"

	"lukechampine.com/blake3"

	"github.com/computemarket/computemarket/courier"
)

// OpenBundles opens the bundles under the folder dir, which is there, and empty
// at first. Bundles that are an io.Closer are closed before their data is opened
// again, and must then answer with courier.ErrClosed. Those that have a method
// Damage(courier.Hash) error, which changes the content kept for a hash behind
// their back, are tried with damage too.
type OpenBundles func(dir string) (courier.Bundles, error)

// RunBundles runs the suite for courier.Bundles, one subtest for each clause of
// the contract.
func RunBundles(t *testing.T, open OpenBundles) {
	for _, c := range BundlesClauses() {
		t.Run(c.Name, func(t *testing.T) {
			if err := c.Check(t.Context(), t.TempDir(), open); err != nil {
				t.Error(err)
			}
		})
	}
}

// BundlesClause is one promise of courier.Bundles. Check returns an error unless
// the bundles that open gives keep it; dir is an empty folder.
type BundlesClause struct {
	Name  string
	Check func(ctx context.Context, dir string, open OpenBundles) error
}

// BundlesClauses returns all clauses of the suite.
func BundlesClauses() []BundlesClause { return slices.Clone(bundlesClauses) }

// BundlesModel is courier.Bundles in memory, for tests. The zero BundlesModel is
// empty and ready. Nothing outlives the process.
type BundlesModel struct {
	mu   sync.Mutex
	kept map[courier.Hash][]byte
}

var _ courier.Bundles = (*BundlesModel)(nil)

// Create implements courier.Bundles.
func (m *BundlesModel) Create(ctx context.Context) (courier.BundleWriter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &modelWriter{m: m}, nil
}

// Open implements courier.Bundles.
func (m *BundlesModel) Open(ctx context.Context, h courier.Hash) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	content, ok := m.kept[h]
	if !ok {
		return nil, fmt.Errorf("%w: bundle %v", courier.ErrNotFound, h)
	}
	return io.NopCloser(bytes.NewReader(content)), nil
}

// Remove implements courier.Bundles.
func (m *BundlesModel) Remove(ctx context.Context, h courier.Hash) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.kept, h)
	return nil
}

// All implements courier.Bundles.
func (m *BundlesModel) All(ctx context.Context) iter.Seq2[courier.Hash, error] {
	return func(yield func(courier.Hash, error) bool) {
		m.mu.Lock()
		hashes := slices.Collect(maps.Keys(m.kept))
		m.mu.Unlock()
		for _, h := range hashes {
			if err := ctx.Err(); err != nil {
				yield(courier.Hash{}, err)
				return
			}
			if !yield(h, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(courier.Hash{}, err)
		}
	}
}

// Damage puts something else in the place of a bundle.
func (m *BundlesModel) Damage(h courier.Hash) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept[h] = []byte("something else")
	return nil
}

var errDone = errors.New("couriertest: the bundle was committed or aborted")

type modelWriter struct {
	m       *BundlesModel
	content []byte
	done    bool
}

func (w *modelWriter) Write(p []byte) (int, error) {
	if w.done {
		return 0, errDone
	}
	w.content = append(w.content, p...)
	return len(p), nil
}

func (w *modelWriter) Commit(h courier.Hash) error {
	if w.done {
		return errDone
	}
	w.done = true
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if w.m.kept == nil {
		w.m.kept = map[courier.Hash][]byte{}
	}
	w.m.kept[h] = w.content
	return nil
}

func (w *modelWriter) Abort() error {
	w.done = true
	return nil
}

// store keeps content under its hash.
func store(ctx context.Context, b courier.Bundles, content string) (courier.Hash, error) {
	h := hashOf(content)
	w, err := begin(ctx, b, content)
	if err == nil {
		err = w.Commit(h)
	}
	if err != nil {
		return h, fmt.Errorf("keep %q: %w", content, err)
	}
	return h, nil
}

// begin writes content in small pieces from one buffer, and does not commit.
func begin(ctx context.Context, b courier.Bundles, content string) (courier.BundleWriter, error) {
	w, err := b.Create(ctx)
	if err != nil {
		return nil, err
	}
	var buf [7]byte
	for len(content) > 0 {
		n := copy(buf[:], content)
		content = content[n:]
		if m, err := w.Write(buf[:n]); err != nil || m != n {
			return nil, fmt.Errorf("Write = %d, %v, want %d", m, err, n)
		}
		clear(buf[:]) // it is the caller's
	}
	return w, nil
}

func hashOf(content string) courier.Hash { return blake3.Sum256([]byte(content)) }

// holds checks that b has content.
func holds(ctx context.Context, b courier.Bundles, content string) error {
	got, err := load(ctx, b, hashOf(content))
	if err != nil || got != content {
		return fmt.Errorf("kept: %q, %v, want %q", got, err, content)
	}
	return nil
}

func load(ctx context.Context, b courier.Bundles, h courier.Hash) (string, error) {
	r, err := b.Open(ctx, h)
	if err != nil {
		return "", err
	}
	got, err := io.ReadAll(r)
	return string(got), errors.Join(err, r.Close())
}

// holdsNo checks that b has nothing under h.
func holdsNo(ctx context.Context, b courier.Bundles, h courier.Hash) error {
	if got, err := load(ctx, b, h); !errors.Is(err, courier.ErrNotFound) {
		return fmt.Errorf("Open of what is not there: %q, %v, want ErrNotFound", got, err)
	}
	return nil
}

// lists checks what All yields.
func lists(ctx context.Context, b courier.Bundles, want ...courier.Hash) error {
	seen := map[courier.Hash]int{}
	for h, err := range b.All(ctx) {
		if err != nil {
			return fmt.Errorf("All: %w", err)
		}
		seen[h]++
	}
	for _, h := range want {
		if seen[h] != 1 {
			return fmt.Errorf("All yields %v %d times, want once", h, seen[h])
		}
	}
	if len(seen) != len(want) {
		return fmt.Errorf("All yields %d hashes, want %d", len(seen), len(want))
	}
	return nil
}

func shutBundles(b courier.Bundles) error {
	if c, ok := b.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
