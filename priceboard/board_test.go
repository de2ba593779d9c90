package priceboard

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func newBoard(t testing.TB, opts *Options) *Board {
	t.Helper()
	b, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// model is a board as its documentation describes it: a list, sorted when asked.
type model struct {
	opts   Options
	offers []Offer
}

func (m *model) record(o Offer) {
	if o.Derived {
		return
	}
	switch {
	case m.opts.MaxPerParty > 0 && m.held(o.Party) == m.opts.MaxPerParty:
		i := slices.IndexFunc(m.offers, func(x Offer) bool { return x.Party == o.Party })
		m.offers = slices.Delete(m.offers, i, i+1)
	case len(m.offers) == m.opts.Window:
		m.offers = m.offers[1:]
	}
	m.offers = append(m.offers, o)
}

// held is how many prices of party are in the window.
func (m *model) held(party string) (n int) {
	for _, x := range m.offers {
		if x.Party == party {
			n++
		}
	}
	return n
}

func (m *model) prices() []uint64 {
	prices := make([]uint64, 0, len(m.offers))
	for _, o := range m.offers {
		prices = append(prices, o.Price)
	}
	return prices
}

func (m *model) sorted() []uint64 { return slices.Sorted(slices.Values(m.prices())) }

// check compares everything that b tells with the sorted list.
func (m *model) check(b *Board) error {
	s := m.sorted()
	n := len(s)
	got, ok := b.Bands()
	want := Bands{N: n}
	if n >= m.opts.MinSamples {
		want = Bands{s[n/4], s[n/2], s[n*3/4], n}
	}
	if got != want || ok != (n >= m.opts.MinSamples) {
		return fmt.Errorf("Bands: %+v, %v, want %+v", got, ok, want)
	}
	for _, q := range []float64{0, 0.1, 0.29, 0.5, 0.57, 0.9, 1} {
		got, err := b.Quantile(q)
		if n < m.opts.MinSamples {
			if !errors.Is(err, ErrNoBands) {
				return fmt.Errorf("Quantile(%v) of too few: %v", q, err)
			}
			continue
		}
		exact := new(big.Rat).Mul(decimal(q), big.NewRat(int64(n), 1))
		k := int(new(big.Int).Quo(exact.Num(), exact.Denom()).Int64())
		if want := s[min(k, n-1)]; err != nil || got != want {
			return fmt.Errorf("Quantile(%v): %d, %v, want %d", q, got, err, want)
		}
	}
	if got := b.queue.appendTo([]uint64{}); !slices.Equal(got, m.prices()) {
		return fmt.Errorf("in order of arrival: %v, want %v", got, m.prices())
	}
	return nil
}

// decimal is q as it is written.
func decimal(q float64) *big.Rat {
	d, _ := new(big.Rat).SetString(strconv.FormatFloat(q, 'g', -1, 64))
	return d
}

// TestBoardModel holds a board with any options against the model, after any
// operations. rapid prints the seed and the shortest sequence that fails.
func TestBoardModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		window := rapid.IntRange(1, 20).Draw(t, "window")
		m := &model{opts: Options{
			Window:      window,
			MinSamples:  rapid.IntRange(1, window).Draw(t, "minSamples"),
			MaxPerParty: rapid.IntRange(0, 4).Draw(t, "maxPerParty"),
		}}
		b, err := New(&m.opts)
		if err != nil {
			t.Fatal(err)
		}
		price := rapid.OneOf(rapid.Uint64Range(0, 9), rapid.Uint64(),
			rapid.SampledFrom([]uint64{0, math.MaxUint64}))
		t.Repeat(map[string]func(*rapid.T){
			"record": func(t *rapid.T) {
				o := Offer{Price: price.Draw(t, "price")}
				b.Record(o.Price)
				m.record(o)
			},
			"offer": func(t *rapid.T) {
				o := Offer{price.Draw(t, "price"), rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "party"),
					rapid.IntRange(0, 4).Draw(t, "derived") == 0}
				b.RecordOffer(o)
				m.record(o)
			},
			"reset": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "really") == 0 {
					b.Reset()
					m.offers = nil
				}
			},
			"": func(t *rapid.T) {
				if err := m.check(b); err != nil {
					t.Fatal(err)
				}
			},
		})
	})
}

// TestBoardWindows holds boards of many windows against a plain sort, over all
// price patterns.
func TestBoardWindows(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, p := range patterns {
		t.Run(p.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			for _, window := range []int{1, 2, 3, 4, 5, 99, 100, oneBlock - 1, oneBlock, oneBlock + 1, 5000} {
				m := &model{opts: Options{Window: window, MinSamples: 1}}
				b := newBoard(t, &m.opts)
				steps := 2*window + window/2 + 10
				every := 1 + steps/40
				for i := range steps {
					price := p.price(r, i)
					b.Record(price)
					m.record(Offer{Price: price})
					if i%every == 0 || i == steps-1 {
						if err := m.check(b); err != nil {
							t.Fatalf("window %d, step %d: %v", window, i, err)
						}
					}
				}
			}
		})
	}
}

// TestBoardMillion checks a window of a million, full and turned over.
func TestBoardMillion(t *testing.T) {
	if testing.Short() {
		t.Skip("sorts a million prices a few times")
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const window = 1_000_000
	for _, p := range patterns {
		t.Run(p.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			m := &model{opts: Options{Window: window, MinSamples: 1}}
			b := newBoard(t, &m.opts)
			steps := window + window/3
			for i := range steps {
				price := p.price(r, i)
				b.Record(price)
				if i >= steps-window {
					m.offers = append(m.offers, Offer{Price: price})
				}
			}
			if err := m.check(b); err != nil {
				t.Fatal(err)
			}
		})
		if !*sweep && p.name == "falling" {
			break // the others take their time with -sweep
		}
	}
}

func TestIndexRule(t *testing.T) {
	for _, c := range []struct {
		n    int
		want Bands
	}{
		{1, Bands{1, 1, 1, 1}}, {2, Bands{1, 2, 2, 2}}, {3, Bands{1, 2, 3, 3}},
		{4, Bands{2, 3, 4, 4}}, {5, Bands{2, 3, 4, 5}}, {100, Bands{26, 51, 76, 100}},
	} {
		b := newBoard(t, nil)
		for i := range c.n {
			b.Record(uint64(i + 1))
		}
		if got, ok := b.Bands(); got != c.want || !ok {
			t.Errorf("1..%d: %+v, %v, want %+v", c.n, got, ok, c.want)
		}
	}
}

func TestQuantileRefuses(t *testing.T) {
	b := newBoard(t, nil)
	if _, err := b.Quantile(0.5); !errors.Is(err, ErrNoBands) {
		t.Errorf("of nothing: %v, want ErrNoBands", err)
	}
	b.Record(1)
	for _, q := range []float64{-0.1, 1.1, math.NaN(), math.Inf(1), math.Inf(-1)} {
		if _, err := b.Quantile(q); !errors.Is(err, ErrQuantile) {
			t.Errorf("Quantile(%v): %v, want ErrQuantile", q, err)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{Window: -1}, {Window: MaxWindow + 1}, {MinSamples: -1}, {MinSamples: 101},
		{Window: 5, MinSamples: 6}, {MaxPerParty: -1}, {SaveInterval: -1},
	} {
		if _, err := New(&o); !errors.Is(err, ErrOptions) {
			t.Errorf("%+v: %v, want ErrOptions", o, err)
		}
	}
	o := Options{}
	newBoard(t, &o)
	if o != (Options{}) {
		t.Errorf("New changed its options to %+v", o)
	}
}

func TestBacklogAdjustedBid(t *testing.T) {
	const most = math.MaxUint64
	for _, c := range []struct {
		median, backlog uint64
		window          int
		want            uint64
	}{
		{100, 0, 100, 100}, {100, 100, 100, 200}, {100, 1, 100, 101}, {1, 1, 100, 2}, // rounds up
		{10, 25, 100, 13}, {0, most, 100, 0}, {most, 0, 100, most}, {most, 1, 100, most},
		{most, most, 1, most}, {1, most, 1, most}, {1, most - 1, 1, most},
		{1 << 63, 1, 2, 1<<63 + 1<<62}, {1 << 32, 1 << 32, 1, most},
	} {
		b := newBoard(t, &Options{Window: c.window})
		if _, ok := b.BacklogAdjustedBid(1); ok {
			t.Fatal("a bid from nothing")
		}
		b.Record(c.median)
		if got, ok := b.BacklogAdjustedBid(c.backlog); got != c.want || !ok {
			t.Errorf("median %d, backlog %d of %d: %d, want %d", c.median, c.backlog, c.window, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		median, backlog := rapid.Uint64().Draw(t, "median"), rapid.Uint64().Draw(t, "backlog")
		window := rapid.IntRange(1, 5000).Draw(t, "window")
		b, err := New(&Options{Window: window})
		if err != nil {
			t.Fatal(err)
		}
		b.Record(median)
		// ceil(median·(window+backlog) / window), at most 2^64-1
		w := big.NewInt(int64(window))
		want := new(big.Int).Add(w, new(big.Int).SetUint64(backlog))
		want.Mul(want, new(big.Int).SetUint64(median))
		want.Add(want, big.NewInt(int64(window-1))).Div(want, w)
		if !want.IsUint64() {
			want.SetUint64(most)
		}
		if got, _ := b.BacklogAdjustedBid(backlog); got != want.Uint64() {
			t.Fatalf("%d, want %v", got, want)
		}
	})
}

// TestBusyParty shows what the robust options are for.
func TestBusyParty(t *testing.T) {
	b := newBoard(t, &Options{MinSamples: 10, MaxPerParty: 3})
	for i := range 1000 {
		b.RecordOffer(Offer{Price: 1_000_000, Party: "whale"})
		if bands, ok := b.Bands(); ok || bands.N > 3 {
			t.Fatalf("after %d prices of one party: %+v, %v", i+1, bands, ok)
		}
	}
	for i := range 20 {
		b.RecordOffer(Offer{Price: 100, Party: fmt.Sprint("honest", i)})
	}
	for range 1000 {
		b.RecordOffer(Offer{Price: 1_000_000, Party: "whale"})
	}
	if got, ok := b.Bands(); !ok || got != (Bands{100, 100, 100, 23}) {
		t.Errorf("%+v, %v", got, ok)
	}
}

// TestDerivedFeedback lets a bidder follow the board: marked bids leave the
// median alone.
func TestDerivedFeedback(t *testing.T) {
	b := newBoard(t, nil)
	for i := range 100 {
		b.Record(uint64(100 + i%3))
	}
	before, _ := b.Bands()
	for range 1000 {
		bid, _ := b.BacklogAdjustedBid(10)
		b.RecordOffer(Offer{Price: bid, Party: "self", Derived: true})
	}
	if after, _ := b.Bands(); after != before {
		t.Errorf("%+v became %+v", before, after)
	}
}

// TestRosterForgets sees that parties without prices take no memory.
func TestRosterForgets(t *testing.T) {
	b := newBoard(t, &Options{Window: 10, MaxPerParty: 2})
	for i := range 1000 {
		b.RecordOffer(Offer{Price: 1, Party: fmt.Sprint(i)})
	}
	r := b.queue.(*roster)
	if len(r.parties) != 10 || len(r.slots) != 10 {
		t.Errorf("%d parties, %d slots, want 10 each", len(r.parties), len(r.slots))
	}
	b.Reset()
	if len(r.parties) != 0 {
		t.Errorf("%d parties after Reset", len(r.parties))
	}
}

// TestZeroBoard: the zero Board is what New(nil) makes, whatever is called first.
func TestZeroBoard(t *testing.T) {
	made := newBoard(t, nil)
	for name, first := range map[string]func(*Board) (any, error){
		"Bands":     func(b *Board) (any, error) { bands, ok := b.Bands(); return fmt.Sprint(bands, ok), nil },
		"Quantile":  func(b *Board) (any, error) { return b.Quantile(0.5) },
		"Bid":       func(b *Board) (any, error) { bid, ok := b.BacklogAdjustedBid(1); return fmt.Sprint(bid, ok), nil },
		"Record":    func(b *Board) (any, error) { return nil, nil },
		"Reset":     func(b *Board) (any, error) { b.Reset(); return nil, nil },
		"Save":      func(b *Board) (any, error) { return nil, b.Save(t.Context()) },
		"Result":    func(b *Board) (any, error) { return b.LoadResult(), nil },
		"RunToDone": func(b *Board) (any, error) { return nil, b.Run(done(t)) },
	} {
		zero := new(Board)
		got, err := first(zero)
		want, wantErr := first(made)
		if got != want || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Errorf("%s: %v, %v, want %v, %v", name, got, err, want, wantErr)
		}
		m := &model{opts: Options{Window: 100, MinSamples: 1}}
		for i := range 150 {
			zero.Record(uint64(i))
			m.record(Offer{Price: uint64(i)})
		}
		if err := m.check(zero); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := errors.Join(zero.Close(), new(Board).Close()); err != nil {
			t.Errorf("%s, Close: %v", name, err)
		}
	}
}

func done(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// TestZeroBoardAtOnce: also if many begin with it together.
func TestZeroBoardAtOnce(t *testing.T) {
	b := new(Board)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range uint64(100) {
				b.Record(i)
				if bands, ok := b.Bands(); !ok || bands.N == 0 {
					t.Error("no bands after a Record")
				}
				b.Save(t.Context())
			}
		})
	}
	wg.Wait()
}
