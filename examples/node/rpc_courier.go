package main

import (
	"context"
	"errors"
	"time"

	"github.com/creachadair/jrpc2"

	"github.com/computemarket/computemarket/courier"
)

type sendParams struct {
	ID      string  `json:"id"` // 32 hexadecimal digits; made up if empty
	Sender  string  `json:"sender"`
	Content *[]byte `json:"content,omitempty"`
	File    string  `json:"file,omitempty"` // a name in the inbox
}

type bundleResult struct {
	ID     string    `json:"id"`
	Bundle string    `json:"bundle"` // BLAKE3-256
	Size   int64     `json:"size"`
	Sender string    `json:"sender"`
	SentAt time.Time `json:"sent_at"`
	State  string    `json:"state"`
	Reason string    `json:"reason,omitempty"`
}

func bundleOf(r courier.Receipt) bundleResult {
	return bundleResult{
		r.ID.String(), r.Bundle.String(), r.Size, r.Sender, r.SentAt, r.State.String(), r.Reason,
	}
}

func (n *node) courierSend(ctx context.Context, p sendParams) (b bundleResult, err error) {
	open, err := n.content(p.Content, p.File)
	if err != nil {
		return b, err
	}
	bundle, err := open()
	if err != nil {
		return b, err
	}
	defer bundle.Close()
	var r courier.Receipt
	if p.ID == "" {
		r, err = n.courier.Send(ctx, bundle, p.Sender)
	} else {
		var id courier.ID
		if id, err = courier.ParseID(p.ID); err != nil {
			return b, err
		}
		r, err = n.courier.SendAs(ctx, id, bundle, p.Sender)
	}
	return bundleOf(r), err
}

type flushParams struct {
	To    string `json:"to"`    // defaults to courier_peer
	Token string `json:"token"` // for a peer named in To
}

type flushResult struct {
	Forwarded uint64 `json:"forwarded"`
	Failed    uint64 `json:"failed"`
	Rejected  uint64 `json:"rejected"`
	Expired   uint64 `json:"expired"`
	Damaged   uint64 `json:"damaged"`
	Remaining uint64 `json:"remaining"`
}

func (n *node) courierFlush(ctx context.Context, p flushParams) (flushResult, error) {
	report, err := n.flush(ctx, p.To, token(p.Token))
	r := flushResult(report)
	if errors.Is(err, courier.ErrPeerDown) {
		return r, jrpc2.Errorf(codePeer, "%s", sentence(err)).WithData(r)
	}
	return r, err
}

type courierParams struct {
	State string `json:"state"` // pending, acknowledged or dead: lists those
	Limit int    `json:"limit"` // of the list; defaults to 1000, the most
}

type courierResult struct {
	Pending      uint64         `json:"pending"`
	Acknowledged uint64         `json:"acknowledged"`
	Dead         uint64         `json:"dead"`
	Flush        *flushResult   `json:"flush,omitempty"` // under way
	Receipts     []bundleResult `json:"receipts,omitempty"`
}

func (n *node) courierStatus(ctx context.Context, p courierParams) (r courierResult, err error) {
	counts, err := n.courier.Count(ctx)
	if err != nil {
		return r, err
	}
	r = courierResult{Pending: counts.Pending, Acknowledged: counts.Acknowledged, Dead: counts.Dead}
	if report := n.flushes.last.Load(); report != nil {
		f := flushResult(*report)
		r.Flush = &f
	}
	if p.State == "" {
		return r, nil
	}
	state, ok := courierStates[p.State]
	if !ok || p.Limit < 0 {
		return r, invalid("state is pending, acknowledged or dead, and limit not negative")
	}
	limit := maxListed
	if p.Limit > 0 {
		limit = min(limit, p.Limit)
	}
	r.Receipts = []bundleResult{}
	for b, err := range n.courier.List(ctx, state) {
		if err != nil || len(r.Receipts) == limit {
			return r, err
		}
		r.Receipts = append(r.Receipts, bundleOf(b))
	}
	return r, nil
}

var courierStates = map[string]courier.State{
	"pending": courier.Pending, "acknowledged": courier.Acknowledged, "dead": courier.Dead,
}
