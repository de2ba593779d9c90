package priceboard

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// recorder is a log to look at.
type recorder struct {
	mu    sync.Mutex
	lines []slog.Record
}

func (r *recorder) logger() *slog.Logger                     { return slog.New(r) }
func (r *recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *recorder) WithGroup(string) slog.Handler            { return r }
func (r *recorder) Handle(_ context.Context, l slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, l)
	return nil
}

// messages returns level and message of what was logged since the last call.
func (r *recorder) messages() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, l := range r.lines {
		out = append(out, l.Level.String()+" "+l.Message)
	}
	r.lines = nil
	return out
}

// fakeStore keeps the last snapshot and counts saves; err fails them.
type fakeStore struct {
	mu     sync.Mutex
	saves  []Snapshot
	err    error
	closes int
	pause  chan struct{} // if set, each save waits for it
	call   func(method string)
}

func (f *fakeStore) called(method string) {
	if f.call != nil {
		f.call(method)
	}
}

func (f *fakeStore) Load(context.Context) (Snapshot, error) {
	f.called("Store.Load")
	return Snapshot{}, ErrNoSnapshot
}

func (f *fakeStore) Save(_ context.Context, s Snapshot) error {
	f.called("Store.Save")
	if f.pause != nil {
		<-f.pause
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	s.Prices = slices.Clone(s.Prices)
	f.saves = append(f.saves, s)
	return nil
}

func (f *fakeStore) Close() error {
	f.closes++
	f.called("Store.Close")
	return nil
}

func (f *fakeStore) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.saves)
}

func (f *fakeStore) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func openBoard(t *testing.T, s Store, opts *Options) *Board {
	t.Helper()
	b, err := Open(t.Context(), s, opts)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRunSavesAtIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, log := &fakeStore{}, new(recorder)
		b := openBoard(t, store, &Options{Logger: log.logger()})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		after := func(d time.Duration, saves int) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := store.count(); got != saves {
				t.Errorf("at %v: %d saves, want %d", d, got, saves)
			}
		}
		after(31*time.Second, 0) // nothing has changed
		b.Record(1)
		after(28*time.Second, 0) // 59 s
		after(2*time.Second, 1)  // 61 s
		after(10*time.Minute, 1) // no change, no save
		b.Reset()
		after(30*time.Second, 2)
		b.Record(2)
		b.Record(3)
		after(time.Second, 2)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		after(0, 3) // once at the end
		if got := store.saves[2]; !slices.Equal(got.Prices, []uint64{2, 3}) || got.Window != 100 {
			t.Errorf("last saved %+v", got)
		}
		want := []string{"INFO loaded price board", "INFO saved price board", "INFO saved price board", "INFO saved price board"}
		if got := log.messages(); !slices.Equal(got, want) {
			t.Errorf("logged %q", got)
		}
	})
}

func TestRunInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &fakeStore{}
		b := openBoard(t, store, &Options{SaveInterval: time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		go b.Run(ctx)
		for i := range 10 {
			b.Record(uint64(i))
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if got := store.count(); got != 10 {
			t.Errorf("%d saves in 10 s, want 10", got)
		}
		cancel()
		synctest.Wait()
	})
}

func TestRunKeepsTrying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, log := &fakeStore{}, new(recorder)
		b := openBoard(t, store, &Options{Logger: log.logger()})
		log.messages()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		full := errors.New("disk full")
		store.fail(full)
		b.Record(1)
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if got := log.messages(); !slices.Equal(got, []string{"WARN price board not saved", "WARN price board not saved"}) {
			t.Errorf("logged %q", got)
		}
		store.fail(nil)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if got := store.count(); got != 1 {
			t.Errorf("%d saves after the disk had room, want 1", got)
		}
		store.fail(full)
		cancel()
		if err := <-done; !errors.Is(err, full) {
			t.Errorf("Run: %v, want the last save's error", err)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &fakeStore{}
		b := openBoard(t, store, nil)
		done := make(chan error, 1)
		go func() { done <- b.Run(t.Context()) }()
		b.Record(1)
		for range 3 {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if store.count() != 1 || store.closes != 1 {
			t.Errorf("%d saves, %d closes, want 1 each", store.count(), store.closes)
		}
		if err := <-done; err != ErrClosed {
			t.Errorf("Run: %v, want ErrClosed", err)
		}
		if err := b.Save(t.Context()); err != ErrClosed {
			t.Errorf("Save: %v, want ErrClosed", err)
		}
		if err := b.Run(t.Context()); err != ErrClosed {
			t.Errorf("Run again: %v, want ErrClosed", err)
		}
		b.Record(2)
		if bands, ok := b.Bands(); !ok || bands.N != 2 {
			t.Errorf("%+v, %v", bands, ok)
		}
	})
}

// TestCloseReleasesAfterFailedSave: a board that cannot save still lets go, and
// says each time that what it held is lost.
func TestCloseReleasesAfterFailedSave(t *testing.T) {
	full := errors.New("disk full")
	store := &fakeStore{err: full}
	b := openBoard(t, store, nil)
	b.Record(1)
	for range 3 {
		if err := b.Close(); !errors.Is(err, full) || store.closes != 1 {
			t.Errorf("%v, %d closes", err, store.closes)
		}
	}
}

// TestSlowStore: while a store takes its time, recording and reading go on, and
// a second save can be called off.
func TestSlowStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &fakeStore{pause: make(chan struct{})}
		b := openBoard(t, store, nil)
		b.Record(1)
		done := make(chan error, 1)
		go func() { done <- b.Save(t.Context()) }()
		synctest.Wait()
		b.Record(2)
		if bands, _ := b.Bands(); bands.N != 2 {
			t.Errorf("%+v", bands)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Save(ctx); err != context.DeadlineExceeded {
			t.Errorf("second save: %v", err)
		}
		close(store.pause)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := store.saves[0].Prices; !slices.Equal(got, []uint64{1}) {
			t.Errorf("saved %v", got)
		}
		if err := b.Close(); err != nil { // 2 came during the save: still unsaved
			t.Fatal(err)
		}
		if got := store.saves[1].Prices; !slices.Equal(got, []uint64{1, 2}) {
			t.Errorf("Close saved %v", got)
		}
	})
}

func TestNoStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := b.Run(ctx); err != nil || ctx.Err() == nil {
			t.Errorf("Run: %v", err)
		}
		if err := b.Save(t.Context()); err != ErrNoStore {
			t.Errorf("Save: %v, want ErrNoStore", err)
		}
		if err := errors.Join(b.Close(), b.Close()); err != nil {
			t.Error(err)
		}
		if err := b.Save(t.Context()); err != ErrClosed {
			t.Errorf("Save after Close: %v, want ErrClosed", err)
		}
		for range 50 { // whichever of two things Run sees first
			for _, ctx := range []context.Context{ctx, t.Context()} { // done, and not
				if err := b.Run(ctx); err != ErrClosed {
					t.Fatalf("Run after Close: %v, want ErrClosed", err)
				}
			}
		}
	})
}

// TestCloseEndsRun: also that of a board without a store.
func TestCloseEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t, nil)
		done := make(chan error, 1)
		go func() { done <- b.Run(t.Context()) }()
		time.Sleep(time.Hour)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != ErrClosed {
			t.Errorf("Run: %v, want ErrClosed", err)
		}
	})
}

// TestOpenLeavesTheStore: an Open that fails changes nothing for a board that
// lives on the store, nor for the caller who has it.
func TestOpenLeavesTheStore(t *testing.T) {
	done, cancel := context.WithCancel(t.Context())
	cancel()
	store := File(filepath.Join(t.TempDir(), "price_board.v1.bin"), nil)
	if _, err := Open(done, store, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("done context: %v", err)
	}
	if _, err := Open(t.Context(), store, &Options{Window: -1}); !errors.Is(err, ErrOptions) {
		t.Errorf("bad options: %v", err)
	}
	b := openBoard(t, store, nil)
	b.Record(1)
	if _, err := Open(done, store, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("done context: %v", err)
	}
	if _, err := Open(t.Context(), store, &Options{Window: -1}); !errors.Is(err, ErrOptions) {
		t.Errorf("bad options: %v", err)
	}
	if _, err := Open(t.Context(), store, nil); !errors.Is(err, ErrLocked) {
		t.Errorf("in use: %v", err)
	}
	if err := b.Save(t.Context()); err != nil {
		t.Errorf("the board's store was closed: %v", err)
	}
	if err := b.Save(done); !errors.Is(err, context.Canceled) {
		t.Errorf("Save with a done context: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenWithoutAStore(t *testing.T) {
	for _, store := range []Store{nil, (*FileStore)(nil), new(FileStore), File("", nil), File("x", &FileOptions{Version: 3})} {
		if b, err := Open(t.Context(), store, nil); b != nil || !errors.Is(err, ErrOptions) {
			t.Errorf("%T: %v, want ErrOptions", store, err)
		}
	}
	if err := File("", nil).Save(t.Context(), oldSnap); !errors.Is(err, ErrOptions) {
		t.Errorf("Save: %v, want ErrOptions", err)
	}
	if _, err := Open(t.Context(), nil, nil); !errors.Is(err, ErrNoStore) {
		t.Errorf("%v, want ErrNoStore", err)
	}
}

// TestWindowAcrossRestart: the configured window wins, the newest prices stay.
func TestWindowAcrossRestart(t *testing.T) {
	for _, limit := range []int{0, 50} {
		path := filepath.Join(t.TempDir(), "price_board.v1.bin")
		b := openBoard(t, File(path, nil), &Options{Window: 10})
		for i := range 25 {
			b.Record(uint64(i))
		}
		for _, c := range []struct {
			window      int
			prices      []uint64
			dropped     int
			savedWindow uint64
		}{
			{10, []uint64{15, 16, 17, 18, 19, 20, 21, 22, 23, 24}, 0, 10},
			{4, []uint64{21, 22, 23, 24}, 6, 10},
			{7, []uint64{21, 22, 23, 24}, 0, 4},
			{7, []uint64{21, 22, 23, 24}, 0, 7},
		} {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			b = openBoard(t, File(path, nil), &Options{Window: c.window, MaxPerParty: limit})
			want := LoadResult{Outcome: Restored, Prices: len(c.prices), Dropped: c.dropped, SavedWindow: c.savedWindow}
			if got := b.LoadResult(); got != want {
				t.Errorf("window %d: %+v, want %+v", c.window, got, want)
			}
			m := &model{opts: Options{Window: c.window, MinSamples: 1}}
			for _, p := range c.prices {
				m.record(Offer{Price: p})
			}
			if err := m.check(b); err != nil {
				t.Errorf("window %d: %v", c.window, err)
			}
		}
		for i := range 5 { // the grown window goes on to fill up
			b.Record(uint64(i))
		}
		if got := b.queue.appendTo(nil); !slices.Equal(got, []uint64{23, 24, 0, 1, 2, 3, 4}) {
			t.Errorf("limit %d: %v", limit, got)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// counting counts the saves of a store.
type counting struct {
	Store
	saves int
}

func (c *counting) Save(ctx context.Context, s Snapshot) error {
	c.saves++
	return c.Store.Save(ctx, s)
}

// TestNothingToSave: what was loaded as it is needs no save, and what did not fit
// does.
func TestNothingToSave(t *testing.T) {
	path := filepath.Join(t.TempDir(), "price_board.v1.bin")
	b := openBoard(t, File(path, nil), &Options{Window: 10})
	for i := range uint64(10) {
		b.Record(i)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ window, saves int }{{10, 0}, {20, 1}, {20, 0}, {5, 1}, {5, 0}} {
		store := &counting{Store: File(path, nil)}
		if err := openBoard(t, store, &Options{Window: c.window}).Close(); err != nil {
			t.Fatal(err)
		}
		if store.saves != c.saves {
			t.Errorf("window %d: %d saves, want %d", c.window, store.saves, c.saves)
		}
	}
}

// TestSaveWhileRecording: what is saved under heavy recording is a window that
// was there at one moment. Each writer counts up, so a window with a gap in one
// of the counts is of no moment.
func TestSaveWhileRecording(t *testing.T) {
	const window, writers = 1000, 4
	path := filepath.Join(t.TempDir(), "price_board.v1.bin")
	b := openBoard(t, File(path, nil), &Options{Window: window})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for w := range uint64(writers) {
		wg.Go(func() {
			for i := uint64(0); ; i++ {
				select {
				case <-stop:
					return
				default:
					b.Record(i*writers + w)
				}
			}
		})
	}
	for range 20 {
		if err := b.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var s Snapshot
		if err := s.UnmarshalBinary(data); err != nil {
			t.Fatal(err)
		}
		last := map[uint64]uint64{}
		for _, p := range s.Prices {
			if l, ok := last[p%writers]; ok && p != l+writers {
				t.Fatalf("writer %d: %d follows %d", p%writers, p/writers, l/writers)
			}
			last[p%writers] = p
		}
	}
	close(stop)
	wg.Wait()
	want := b.queue.appendTo(nil)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBoard(t, File(path, nil), &Options{Window: window})
	defer b.Close()
	if got := b.queue.appendTo(nil); !slices.Equal(got, want) {
		t.Error("the board after Close is not the board before")
	}
}
