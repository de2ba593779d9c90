package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/priceboard"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/match"
	"github.com/computemarket/computemarket/workload"
)

type offerParams struct {
	ID       string         `json:"id"` // made up if empty
	Provider string         `json:"provider"`
	Lane     admission.Lane `json:"lane"`
	Units    uint64         `json:"units"` // slices
	Price    uint64         `json:"price"` // of a slice
	Expires  time.Time      `json:"expires,omitzero"`
}

func (n *node) offerPost(ctx context.Context, p offerParams) (r offer, err error) {
	if err := n.party(p.Provider); err != nil {
		return r, err
	}
	return n.market.post(offer{
		ID: orMade(p.ID, "offer"), Provider: p.Provider, Lane: p.Lane, Units: p.Units, Price: p.Price,
		Expires: p.Expires.UTC(),
	})
}

type jobParams struct {
	ID      string         `json:"id"` // made up if empty
	Buyer   string         `json:"buyer"`
	Lane    admission.Lane `json:"lane"`
	Kind    workload.Kind  `json:"kind"`
	Price   *uint64        `json:"price,omitempty"` // the most for a slice; by default what the price board advises
	Expires time.Time      `json:"expires,omitzero"`
	Slices  []sliceParams  `json:"slices"`
}

// sliceParams is a slice's content, in base64 or as the name of a file in the
// inbox, and what its proof must be. No reference has the node compute it.
type sliceParams struct {
	Content   *[]byte       `json:"content,omitempty"`
	File      string        `json:"file,omitempty"`
	Reference workload.Hash `json:"reference,omitzero"`
}

func (n *node) jobSubmit(ctx context.Context, p jobParams) (r jobResult, err error) {
	if err := n.party(p.Buyer); err != nil {
		return r, err
	}
	if !p.Lane.Valid() {
		return r, admission.ErrLane
	}
	if len(p.Slices) == 0 {
		return r, invalid("a job has at least one slice")
	}
	if len(p.Slices) > n.cfg.JobMaxSlices {
		return r, fmt.Errorf("%w: %d slices, at most %d", errLimit, len(p.Slices), n.cfg.JobMaxSlices)
	}
	if p.Price == nil {
		bid, ok := n.board.BacklogAdjustedBid(uint64(n.loop.Stats(p.Lane).Bids))
		if !ok {
			return r, fmt.Errorf("%w: name a price", priceboard.ErrNoBands)
		}
		p.Price = &bid
	}
	contents := make([]content, len(p.Slices))
	for i, s := range p.Slices {
		c, err := n.content(s.Content, s.File)
		if err != nil {
			return r, fmt.Errorf("slice %d: %w", i, err)
		}
		contents[i] = content{c, s.Reference}
	}
	j, err := n.market.submit(ctx, job{
		ID: orMade(p.ID, "job"), Buyer: p.Buyer, Lane: p.Lane, Kind: p.Kind, Price: *p.Price,
		Expires: p.Expires.UTC(),
	}, contents)
	if err != nil {
		return r, err
	}
	return n.jobStatus(ctx, idParams{j.ID})
}

// content is what a call brings along, or names in the inbox.
func (n *node) content(b *[]byte, file string) (func() (io.ReadCloser, error), error) {
	switch {
	case (b != nil) == (file != ""):
		return nil, invalid("either content or file")
	case b != nil:
		return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(*b)), nil }, nil
	}
	return inboxFile(n.inbox, file), nil
}

// party checks an account that is to buy or provide.
func (n *node) party(account string) error {
	if account == n.ledger.Issuer() {
		return settlement.ErrIssuer
	}
	return receipt.ValidateID(account)
}

func orMade(id, what string) string {
	if id == "" {
		return what + "-" + strings.ToLower(rand.Text()[:12])
	}
	return id
}

type idParams struct {
	ID string `json:"id"`
}

type jobResult struct {
	ID     string         `json:"id"`
	Buyer  string         `json:"buyer"`
	Lane   admission.Lane `json:"lane"`
	Kind   workload.Kind  `json:"kind"`
	Price  uint64         `json:"price"` // the most for a slice
	State  string         `json:"state"` // open, done, failed or cancelled
	Slices []sliceResult  `json:"slices"`
}

type sliceResult struct {
	State     string        `json:"state"` // waiting, running, done, failed or cancelled
	Reference workload.Hash `json:"reference"`
	Reason    string        `json:"reason,omitempty"`
	// Of slices that are done; the proof equals the reference.
	Provider string       `json:"provider,omitempty"`
	Price    uint64       `json:"price,omitempty"`
	Receipt  *receipt.Key `json:"receipt,omitempty"`
	DryRun   bool         `json:"dry_run,omitempty"`
	Settled  bool         `json:"settled,omitempty"`
}

func (n *node) jobStatus(ctx context.Context, p idParams) (r jobResult, err error) {
	j, ends, err := n.market.look(p.ID)
	if err != nil {
		return r, err
	}
	r = jobResult{ID: j.ID, Buyer: j.Buyer, Lane: j.Lane, Kind: j.Kind, Price: j.Price}
	states := make(map[string]int)
	for i, s := range j.Slices {
		row := sliceResult{Reference: s.Reference, State: n.market.state(j, i, ends[i])}
		if e := ends[i]; e != nil && row.State == "done" {
			row.Provider, row.Price, row.DryRun = e.receipt.Provider, e.receipt.QuotePrice, e.receipt.DryRun
			row.Receipt = &e.receipt.Key
			if _, row.Settled, err = n.ledger.Transfer(ctx, settlement.ID(e.receipt.Key)); err != nil {
				return r, err
			}
		} else if e != nil {
			row.Reason = e.failure
		}
		states[row.State]++
		r.Slices = append(r.Slices, row)
	}
	switch {
	case states["waiting"]+states["running"] > 0:
		r.State = "open"
	case states["failed"] > 0:
		r.State = "failed"
	case states["cancelled"] > 0:
		r.State = "cancelled"
	default:
		r.State = "done"
	}
	return r, nil
}

type cancelResult struct {
	ID    string `json:"id"`
	Units uint64 `json:"units"` // that will not be matched now
}

func (n *node) orderCancel(ctx context.Context, p idParams) (cancelResult, error) {
	units, err := n.market.cancel(p.ID)
	return cancelResult{p.ID, units}, err
}

type bandsResult struct {
	P25    uint64 `json:"p25"`
	Median uint64 `json:"median"`
	P75    uint64 `json:"p75"`
	Prices int    `json:"prices"` // 0 means that there are no bands
	Window int    `json:"window"`
}

func (n *node) priceBands(context.Context, none) (bandsResult, error) {
	b, _ := n.board.Bands()
	return bandsResult{b.P25, b.Median, b.P75, b.N, n.cfg.PriceBoardWindow}, nil
}

type admissionResult struct {
	Mode               string       `json:"mode"` // normal, tight or brownout
	FeeP50             uint64       `json:"consumer_fee_p50"`
	FeeP90             uint64       `json:"consumer_fee_p90"`
	FeeSamples         int          `json:"fee_samples"`
	Threshold          uint64       `json:"comfort_threshold"`
	Capacity           uint64       `json:"capacity_shards"`
	Leased             uint64       `json:"leased_shards"` // may exceed the capacity by what consumers hold
	ConsumerLeased     uint64       `json:"consumer_leased_shards"`
	IndustrialLeased   uint64       `json:"industrial_leased_shards"`
	IndustrialAdmitted uint64       `json:"industrial_admitted"`
	IndustrialDeferred uint64       `json:"industrial_deferred"`
	Lanes              []laneResult `json:"lanes"`
}

type laneResult struct {
	Lane    admission.Lane `json:"lane"`
	Bids    int            `json:"bids"`
	Asks    int            `json:"asks"`
	Matches int            `json:"matches_in_flight"`
	BestBid *uint64        `json:"best_bid,omitempty"`
	BestAsk *uint64        `json:"best_ask,omitempty"`
}

func (n *node) admissionStatus(context.Context, none) (admissionResult, error) {
	s := n.admit.Status()
	r := admissionResult{
		Mode: s.Mode.String(), FeeP50: s.FeeP50, FeeP90: s.FeeP90, FeeSamples: s.FeeSamples, Threshold: s.Threshold,
		Capacity: s.Capacity, Leased: s.Leased,
		ConsumerLeased: s.ConsumerLeased, IndustrialLeased: s.Leased - s.ConsumerLeased,
		IndustrialAdmitted: s.IndustrialAdmitted, IndustrialDeferred: s.IndustrialDeferred,
	}
	for _, lane := range admission.Lanes {
		s := n.market.book.Stats(lane)
		l := laneResult{Lane: lane, Bids: s.Bids, Asks: s.Asks, Matches: s.Matches}
		if p, ok := n.market.book.Best(lane, match.Bid); ok {
			l.BestBid = &p
		}
		if p, ok := n.market.book.Best(lane, match.Ask); ok {
			l.BestAsk = &p
		}
		r.Lanes = append(r.Lanes, l)
	}
	return r, nil
}
