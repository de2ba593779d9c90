package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/settlement"
)

// rewarder credits a carrier on the ledger. The credits are issued: who pays a
// carrier is for a market to decide, and here it is everybody.
type rewarder struct{ ledger settlement.Ledger }

func (r rewarder) Credit(ctx context.Context, credits []courier.Credit) (int, error) {
	transfers := make([]settlement.Transfer, len(credits))
	for i, c := range credits {
		transfers[i] = settlement.Transfer{
			ID:   rewardID(c.ID),
			From: r.ledger.Issuer(), To: c.Account, Amount: c.Amount,
			Tag: "courier:" + c.ID.String(),
		}
	}
	results, err := r.ledger.Post(ctx, settlement.Lease{}, transfers)
	if errors.Is(err, settlement.ErrConflict) || errors.Is(err, settlement.ErrInvalid) {
		err = fmt.Errorf("%w: %w", courier.ErrRejected, err)
	}
	return len(results), err
}

// rewardID keeps the ids of receipts, of which others choose some, apart from
// those of other transfers.
func rewardID(id courier.ID) (t settlement.ID) {
	copy(t[:], "courier reward  ")
	copy(t[16:], id[:])
	return t
}

// mebibytes rounds up.
func mebibytes(size int64) uint64 { return uint64(size>>20) + uint64(min(size&(1<<20-1), 1)) }

// flushes holds how far the flush has come that is under way.
type flushes struct {
	mu   sync.Mutex // held during a flush
	last atomic.Pointer[courier.Report]
}

func (f *flushes) report(r courier.Report) { f.last.Store(&r) }

// flush forwards what is pending to the peer, or to another one. One flush runs
// at a time.
func (n *node) flush(ctx context.Context, to string, t token) (courier.Report, error) {
	if to == "" {
		if to = n.cfg.CourierPeer; to == "" {
			return courier.Report{}, errNoPeer
		}
		if n.cfg.CourierPeerTokenFile != "" {
			var err error
			if t, err = readToken(resolve(n.dir, n.cfg.CourierPeerTokenFile)); err != nil {
				return courier.Report{}, err
			}
		}
	}
	forwarder, err := courier.NewHTTPForwarder(to, &courier.HTTPOptions{Header: t.header()})
	if err != nil {
		return courier.Report{}, err
	}
	defer forwarder.Close()
	if !n.flushes.mu.TryLock() {
		return courier.Report{}, errFlushing
	}
	defer n.flushes.mu.Unlock()
	n.flushes.report(courier.Report{})
	defer n.flushes.last.Store(nil)
	return n.courier.Flush(ctx, forwarder)
}

var (
	errNoPeer   = errors.New("courier_peer is not set, and no other peer was named")
	errFlushing = errors.New("a flush is under way")
)
