package match

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/computemarket/computemarket/admission"
)

// A tape holds messages: orders, and cancels of orders. It is kept small, so
// that what a benchmark measures is the book in the caches and not the tape.
type tape struct {
	msgs []message
	ids  string // the id of message i is the i-th idLen bytes
}

type message struct {
	price   uint64
	units   uint16
	account uint16
	lane    admission.Lane
	side    Side // 0: cancel
}

const idLen = 16

var accounts = func() (names [1000]string) {
	for i := range names {
		names[i] = fmt.Sprintf("account-%03d", i)
	}
	return names
}()

// decode makes orders of the messages from number from on. A cancel is an order
// without a side.
func (t *tape) decode(dst []Order, from int) {
	for i := range dst {
		n := from + i
		m := &t.msgs[n]
		dst[i] = Order{
			ID: t.ids[n*idLen : (n+1)*idLen], Account: accounts[m.account],
			Lane: m.lane, Side: m.side, Units: uint64(m.units), Price: m.price,
		}
	}
}

// newTapes makes a tape that fills a book with live orders, and one of n
// messages, every second of them a cancel of a random order. Prices lie around a
// mid price, spread over so many levels; about one order in 32 crosses. A
// cancel may come too late: the order has been filled.
func newTapes(live, n int, levels uint64) (fill, msgs tape) {
	rng := rand.New(rand.NewPCG(1, uint64(live)))
	const mid = 1 << 32
	ids := make([]byte, 0, idLen*(live+n))
	id := 0
	order := func() message {
		id++
		m := message{
			account: uint16(rng.IntN(len(accounts))),
			lane:    admission.Lanes[id&1],
			side:    Side(1 + rng.IntN(2)),
			units:   uint16(1 + rng.IntN(100)),
		}
		ids = fmt.Appendf(ids, "order-%010d", id)
		// Most orders come near the best price: the smaller of two draws.
		d := min(rng.Uint64N(levels), rng.Uint64N(levels))
		at := mid + 1 + int64(d)
		if rng.IntN(32) == 0 {
			at = mid - 1 - int64(d%8) // meets whoever is best on the other side
		}
		if m.side == Bid {
			at = 2*mid - at
		}
		m.price = uint64(at)
		return m
	}
	at := make([]int, live) // where the ids of live orders begin
	for i := range live {
		at[i] = len(ids)
		fill.msgs = append(fill.msgs, order())
	}
	for range n / 2 {
		i, was := rng.IntN(live), len(ids)
		msgs.msgs = append(msgs.msgs, order(), message{})
		ids = append(ids, ids[at[i]:at[i]+idLen]...)
		at[i] = was
	}
	fill.ids, msgs.ids = string(ids[:live*idLen]), string(ids[live*idLen:])
	return fill, msgs
}

// chunk is how many messages are decoded at a time. Only what comes after is
// timed: whoever submits an order has just decoded it.
const chunk = 256

// replay runs n messages, with a pass and commits whenever the book asks for
// one. It appends the numbers of those messages to passes, if that is not nil.
func (b *Book) replay(t *tape, from, n int, buf []Match, passes *[]int) (matches int, took time.Duration) {
	var orders [chunk]Order
	for end := from + n; from < end; from += chunk {
		batch := orders[:min(chunk, end-from)]
		t.decode(batch, from)
		began := time.Now()
		for i := range batch {
			if batch[i].Side == 0 {
				b.Cancel(batch[i].ID)
				continue
			}
			if _, err := b.Submit(batch[i], began); err != nil {
				panic(err)
			}
			select {
			case <-b.changed:
				for _, lane := range admission.Lanes {
					buf = b.Propose(buf[:0], lane, cap(buf))
					matches += len(buf)
					for _, mt := range buf {
						b.Commit(mt)
					}
				}
				if passes != nil {
					*passes = append(*passes, from+i)
				}
			default:
			}
		}
		took += time.Since(began)
	}
	return matches, took
}

// replay does the same with the naive book, with passes at the same messages.
func (n *naive) replay(t *tape, count int, passes []int) (took time.Duration) {
	var orders [chunk]Order
	for from := 0; from < count; from += chunk {
		batch := orders[:min(chunk, count-from)]
		t.decode(batch, from)
		began := time.Now()
		for i := range batch {
			if batch[i].Side == 0 {
				n.cancel(batch[i].ID)
				continue
			}
			if _, err := n.submit(batch[i], began); err != nil {
				panic(err)
			}
			if len(passes) > 0 && passes[0] == from+i {
				passes = passes[1:]
				for _, lane := range admission.Lanes {
					for _, mt := range n.propose(lane, math.MaxInt) {
						n.commit(mt)
					}
				}
			}
		}
		took += time.Since(began)
	}
	return took
}

const tapeLen = 1_000_000

// BenchmarkBook replays tapes of a million messages, half of them cancels, on a
// book of so many orders. An operation is a message, passes and commits
// included, decoding it from the tape not. xfloor is how many times faster that is than the naive book of the
// tests on the beginning of the same tape. Targets: 50, 65, 125, 350 ns.
func BenchmarkBook(b *testing.B) {
	for _, c := range []struct {
		name   string
		live   int
		levels uint64
		floor  int // messages for the naive book
	}{
		{"1k", 1_000, 100, 20_000},
		{"10k", 10_000, 1_000, 2_000},
		{"100k", 100_000, 5_000, 1_000},
		{"wide", 100_000, 1 << 31, 1_000},
	} {
		b.Run(c.name, func(b *testing.B) {
			fill, msgs := newTapes(c.live, tapeLen, c.levels)
			buf := make([]Match, 0, 1024)
			start := func() *Book {
				book := newBook(b, nil)
				book.replay(&fill, 0, c.live, buf, nil)
				return book
			}

			var passes []int
			start().replay(&msgs, 0, c.floor, buf, &passes)
			n := newNaive(math.MaxInt)
			for _, r := range start().Snapshot() {
				n.submit(r.Order, epoch)
			}
			floor := n.replay(&msgs, c.floor, passes).Seconds() / float64(c.floor)

			book := start()
			var took time.Duration
			pos, matches := 0, 0
			runtime.GC() // what making the tape left behind is not the book's
			b.ReportAllocs()
			b.ResetTimer()
			for n := b.N; n > 0; {
				k := min(n, tapeLen-pos)
				m, d := book.replay(&msgs, pos, k, buf, nil)
				matches, took = matches+m, took+d
				n -= k
				if pos += k; pos == tapeLen && n > 0 {
					b.StopTimer()
					pos, book = 0, start()
					runtime.GC()
					b.StartTimer()
				}
			}
			b.StopTimer()
			per := took.Seconds() / float64(b.N)
			b.ReportMetric(per*1e9, "ns/op")
			b.ReportMetric(floor/per, "xfloor")
			var orders, levels int
			for _, lane := range admission.Lanes {
				s := book.Stats(lane)
				orders, levels = orders+s.Bids+s.Asks, levels+s.Levels
			}
			b.ReportMetric(float64(orders)/float64(levels), "orders/level")
			b.ReportMetric(float64(matches)/float64(b.N), "matches/op")
		})
	}
}
