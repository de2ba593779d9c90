package match

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/computemarket/computemarket/admission"
)

// message is one line of a tape: an order, or the id of one to cancel.
type message struct {
	order  Order
	cancel string
}

// tape makes the messages that first fill a book with live orders and then n
// messages, every second one a cancel of a random order. Prices lie around a
// mid price, spread over so many levels; about one order in 32 crosses. A
// cancel may come too late: the order has been filled.
func tape(live, n int, levels uint64) (fill, msgs []message) {
	rng := rand.New(rand.NewPCG(1, uint64(live)))
	const mid = 1 << 32
	// The strings lie in memory as they would come from a connection: one
	// message's behind the other's. A cancel has a copy of the id.
	arena := make([]byte, 0, 16*(live+n)+16*1000)
	str := func(format string, arg any) string {
		was := len(arena)
		arena = fmt.Appendf(arena, format, arg)
		return unsafe.String(&arena[was], len(arena)-was)
	}
	accounts := make([]string, 1000)
	for i := range accounts {
		accounts[i] = str("account-%03d", i)
	}
	id := 0
	order := func() message {
		id++
		o := Order{
			ID:      str("order-%010d", id),
			Account: accounts[rng.IntN(len(accounts))],
			Lane:    admission.Lanes[id&1],
			Side:    Side(1 + rng.IntN(2)),
			Units:   1 + rng.Uint64N(100),
		}
		// Most orders come near the best price: the smaller of two draws.
		d := min(rng.Uint64N(levels), rng.Uint64N(levels))
		at := mid + 1 + int64(d)
		if rng.IntN(32) == 0 {
			at = mid - 1 - int64(d%8) // meets whoever is best on the other side
		}
		if o.Side == Bid {
			at = 2*mid - at
		}
		o.Price = uint64(at)
		return message{order: o}
	}
	ids := make([]string, live)
	fill, msgs = make([]message, 0, live), make([]message, 0, n)
	for i := range live {
		fill = append(fill, order())
		ids[i] = fill[i].order.ID
	}
	for range n / 2 {
		m := order()
		i := rng.IntN(live)
		msgs = append(msgs, m, message{cancel: str("%s", ids[i])})
		ids[i] = m.order.ID
	}
	return fill, msgs
}

// replay runs messages, with a pass and commits whenever the book asks for one.
// It appends the numbers of those messages to passes, if that is not nil.
func (b *Book) replay(msgs []message, buf []Match, passes *[]int) (matches int) {
	now := time.Now()
	for i := range msgs {
		m := &msgs[i]
		if m.cancel != "" {
			b.Cancel(m.cancel)
			continue
		}
		if _, err := b.Submit(m.order, now); err != nil {
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
				*passes = append(*passes, i)
			}
		default:
		}
	}
	return matches
}

// replay does the same with the naive book, with passes at the same messages.
func (n *naive) replay(msgs []message, passes []int) {
	now := time.Now()
	for i := range msgs {
		m := &msgs[i]
		if m.cancel != "" {
			n.cancel(m.cancel)
			continue
		}
		if _, err := n.submit(m.order, now); err != nil {
			panic(err)
		}
		if len(passes) > 0 && passes[0] == i {
			passes = passes[1:]
			for _, lane := range admission.Lanes {
				for _, mt := range n.propose(lane, math.MaxInt) {
					n.commit(mt)
				}
			}
		}
	}
}

const tapeLen = 1_000_000

// BenchmarkBook replays tapes of a million messages, half of them cancels, on a
// book of so many orders. An operation is a message, passes and commits
// included. xfloor is how many times faster that is than the naive book of the
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
		{"100k", 100_000, 5_000, 200},
		{"wide", 100_000, 1 << 31, 200},
	} {
		b.Run(c.name, func(b *testing.B) {
			fill, msgs := tape(c.live, tapeLen, c.levels)
			buf := make([]Match, 0, 1024)
			start := func() *Book {
				book := newBook(b, nil)
				book.replay(fill, buf, nil)
				return book
			}

			var passes []int
			start().replay(msgs[:c.floor], buf, &passes)
			n := newNaive(math.MaxInt)
			for _, r := range start().Snapshot() {
				n.submit(r.Order, epoch)
			}
			began := time.Now()
			n.replay(msgs[:c.floor], passes)
			floor := time.Since(began).Seconds() / float64(c.floor)

			book := start()
			pos, matches := 0, 0
			runtime.GC() // what the tape left behind is not the book's
			b.ReportAllocs()
			b.ResetTimer()
			for n := b.N; n > 0; {
				k := min(n, len(msgs)-pos)
				matches += book.replay(msgs[pos:pos+k], buf, nil)
				n -= k
				if pos += k; pos == len(msgs) && n > 0 {
					b.StopTimer()
					pos, book = 0, start()
					runtime.GC()
					b.StartTimer()
				}
			}
			b.StopTimer()
			b.ReportMetric(floor/(b.Elapsed().Seconds()/float64(b.N)), "xfloor")
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
