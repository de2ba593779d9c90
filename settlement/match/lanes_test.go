package match

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receipttest"
)

// crowd puts n crossing pairs into a lane.
func crowd(t *testing.T, b *Book, lane admission.Lane, n int) {
	t.Helper()
	for i := range n {
		put(t, b, Order{ID: fmt.Sprint(lane, "-b", i), Account: "x", Lane: lane, Side: Bid, Units: 1, Price: 5})
		put(t, b, Order{ID: fmt.Sprint(lane, "-a", i), Account: "y", Lane: lane, Side: Ask, Units: 1, Price: 5})
	}
}

func TestLaneFairness(t *testing.T) {
	for _, c := range []struct{ parallel, batch int }{{1, 0}, {3, 0}, {8, 0}, {100, 0}, {0, 16}, {0, 1024}} {
		t.Run(fmt.Sprintf("parallel=%d,batch=%d", c.parallel, c.batch), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, nil)
				crowd(t, b, admission.Consumer, 500)
				crowd(t, b, admission.Industrial, 500)
				o := LoopOptions{Batch: c.batch}
				if c.parallel > 0 {
					o.Parallel = c.parallel
					o.Finalize = func(context.Context, Match) error { time.Sleep(time.Second); return nil }
				}
				var lanes []admission.Lane
				o.OnFinal = func(m Match, _ receipt.Receipt) { lanes = append(lanes, m.Lane) }
				_, stop := running(t, b, &faultyLog{}, &o)
				time.Sleep(2000 * time.Second)
				stop()
				if len(lanes) != 1000 {
					t.Fatalf("%d matches", len(lanes))
				}
				// While both lanes have something, consumers get 7 of 8, and
				// industry is never without for longer than a pass and a turn.
				first := slices.Index(lanes, admission.Industrial)
				last := len(lanes) - 1
				for lanes[last] != admission.Consumer {
					last--
				}
				industrial := 0
				for _, l := range lanes[:last+1] {
					if l == admission.Industrial {
						industrial++
					}
				}
				if got := float64(industrial) / float64(last+1); c.parallel < 100 && c.batch < 1000 && (got < 0.11 || got > 0.14) {
					t.Errorf("industry has %.3f of the matches, want 1/8", got)
				}
				if most := max(c.parallel, c.batch, 8); first > most {
					t.Errorf("industry's first match is number %d", first)
				}
			})
		})
	}
}

func TestStarvationWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var out bytes.Buffer
		var log faultyLog
		l, stop := running(t, b, &log, &LoopOptions{
			Parallel:    1,
			StarveAfter: time.Minute,
			Finalize:    func(context.Context, Match) error { time.Sleep(10 * time.Minute); return nil },
			Logger:      slog.New(slog.NewTextHandler(&out, nil)),
		})
		crowd(t, b, admission.Consumer, 1)
		synctest.Wait()
		crowd(t, b, admission.Industrial, 1)
		synctest.Wait()
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if s := l.Stats(admission.Industrial); s.Starving || s.Waiting != 59*time.Second || s.Bids != 1 || s.Asks != 1 {
			t.Errorf("after 59 s: %+v", s)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		s := l.Stats(admission.Industrial)
		if !s.Starving || s.OldestID != "industrial-b0" {
			t.Errorf("after 6 min: %+v", s)
		}
		if s := l.Stats(admission.Consumer); s.Starving || s.Matches != 1 {
			t.Errorf("consumers: %+v", s)
		}
		if n := strings.Count(out.String(), "lane starves"); n != 1 || !strings.Contains(out.String(), "industrial") {
			t.Errorf("warned %d times:\n%s", n, out.String())
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if s := l.Stats(admission.Industrial); s.Starving || s.Matches != 1 {
			t.Errorf("once it had its turn: %+v", s)
		}
		time.Sleep(time.Hour)
		stop()
	})
}

// Turns that industry did not use are not saved up, whatever consumers had.
func TestTurnsAreNotSavedUp(t *testing.T) {
	b := newBook(t, nil)
	l, err := NewLoop(b, new(receipttest.Mem), nil)
	if err != nil {
		t.Fatal(err)
	}
	can := [2]bool{true, true}
	crowd(t, b, admission.Consumer, 1000)
	if ms := l.share(800, can); len(ms) != 800 {
		t.Fatalf("%d matches", len(ms))
	}
	crowd(t, b, admission.Industrial, 100)
	industrial := 0
	for _, m := range l.share(80, can) {
		if m.Lane == admission.Industrial {
			industrial++
		}
	}
	if industrial < 10 || industrial > 11 {
		t.Errorf("%d of 80 are industry's, want one in eight", industrial)
	}
}

// A lane starves from the moment on that StarveAfter is over.
func TestStarvesAtTheMoment(t *testing.T) {
	var s lanes
	s.tick(epoch)
	s.note(0, true, false, 0, time.Second)
	for _, c := range []struct {
		after time.Duration
		is    bool
	}{{time.Second - 1, false}, {time.Second, true}} {
		if d, is := s.waiting(admission.Consumer, epoch.Add(c.after), time.Second); d != c.after || is != c.is {
			t.Errorf("after %v: %v, %v", c.after, d, is)
		}
	}
}
