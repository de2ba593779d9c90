package priceboardprom_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/computemarket/computemarket/internal/promtest"
	"github.com/computemarket/computemarket/priceboard"
	"github.com/computemarket/computemarket/priceboard/priceboardprom"
)

// gauges returns what a scrape of b shows.
func gauges(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var s string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) != 0 {
				t.Errorf("%s has labels", f.GetName())
			}
			s += fmt.Sprintf("%s %s %v\n", f.GetName(), f.GetType(), m.GetGauge().GetValue())
		}
	}
	return s
}

const none = `price_band_median GAUGE NaN
price_band_p25 GAUGE NaN
price_band_p75 GAUGE NaN
`

const oneToFive = `price_band_median GAUGE 3
price_band_p25 GAUGE 2
price_band_p75 GAUGE 4
`

func register(t *testing.T, b priceboardprom.Board) *prometheus.Registry {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(priceboardprom.New(b, nil)); err != nil {
		t.Fatal(err)
	}
	return reg
}

func TestGauges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "price_board.v1.bin")
	b, err := priceboard.Open(t.Context(), priceboard.File(path, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	reg := register(t, b)
	if got := gauges(t, reg); got != none {
		t.Errorf("before any price:\n%s", got)
	}
	for price := range uint64(5) {
		b.Record(price + 1)
	}
	if got := gauges(t, reg); got != oneToFive {
		t.Errorf("after 1 to 5:\n%s", got)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	b, err = priceboard.Open(t.Context(), priceboard.File(path, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	reg = register(t, b)
	if got := gauges(t, reg); got != oneToFive {
		t.Errorf("right after load:\n%s", got)
	}
	b.Reset()
	if got := gauges(t, reg); got != none {
		t.Errorf("right after Reset:\n%s", got)
	}
}

// TestSideBySide: two boards in one registry, of which one leaves.
func TestSideBySide(t *testing.T) {
	promtest.SideBySide(t, func(namespace string, labels prometheus.Labels) prometheus.Collector {
		b, err := priceboard.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		return priceboardprom.New(b, &priceboardprom.Options{Namespace: namespace, ConstLabels: labels})
	})
}

func TestNoBoard(t *testing.T) {
	for _, b := range []priceboardprom.Board{nil, (*priceboard.Board)(nil)} {
		err := prometheus.NewRegistry().Register(priceboardprom.New(b, nil))
		if !errors.Is(err, priceboard.ErrOptions) {
			t.Errorf("%v, want ErrOptions", err)
		}
	}
}

type broken struct{}

func (broken) Bands() (priceboard.Bands, bool) { panic("broken") }

// TestBrokenBoard: a panic is an error of the scrape and does not end the
// process.
func TestBrokenBoard(t *testing.T) {
	if _, err := register(t, broken{}).Gather(); err == nil {
		t.Error("no error")
	}
}

func Example() {
	board, err := priceboard.New(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(priceboardprom.New(board, nil))

	board.Record(12)
	families, err := reg.Gather()
	for _, f := range families {
		fmt.Println(f.GetName(), f.GetMetric()[0].GetGauge().GetValue())
	}
	fmt.Println(err)
	// Output:
	// price_band_median 12
	// price_band_p25 12
	// price_band_p75 12
	// <nil>
}
