package main

import (
	"context"
	"crypto/rand"
	"math"
	"time"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/workload"
)

// maxListed bounds what a list in an answer holds.
const maxListed = 1000

type settlementResult struct {
	Mode        settlement.Mode        `json:"mode"`
	Standby     bool                   `json:"standby,omitempty"` // another node settles
	Leader      string                 `json:"leader,omitempty"`  // which
	Reason      string                 `json:"reason,omitempty"`
	Activation  *settlement.Activation `json:"activation,omitempty"`
	Height      uint64                 `json:"height"`
	Applied     uint64                 `json:"applied"`
	Failed      uint64                 `json:"failed"`
	Owed        uint64                 `json:"owed"`
	Outstanding uint64                 `json:"outstanding"`
	Balances    []balance              `json:"balances"` // at most 1000
}

// Becomes says for people when an armed engine becomes real.
func (r settlementResult) Becomes() string {
	if r.Activation == nil {
		return ""
	}
	a := *r.Activation
	if left, ok := a.Remaining(); ok {
		a = settlement.After(left.Round(time.Second))
	}
	return a.String()
}

type balance struct {
	Account string `json:"account"`
	Balance uint64 `json:"balance"`
}

func (n *node) settlementStatus(ctx context.Context, _ none) (r settlementResult, err error) {
	s, err := n.engine.Status(ctx)
	if err != nil {
		return r, err
	}
	r = settlementResult{
		Mode: s.Mode, Standby: s.Standby, Leader: s.Leader, Reason: s.Reason, Height: s.Height, Applied: s.Applied, Failed: s.Failed,
		Owed: s.Owed, Outstanding: s.Outstanding, Balances: []balance{},
	}
	if s.Mode == settlement.Armed {
		r.Activation = &s.Activation
	}
	for a, err := range n.ledger.Accounts(ctx) {
		if err != nil {
			return r, err
		}
		if len(r.Balances) == maxListed {
			break
		}
		r.Balances = append(r.Balances, balance{a.Name, a.Balance})
	}
	return r, nil
}

type armParams struct {
	DelaySeconds int64  `json:"delay_seconds"`
	Height       uint64 `json:"height"`
}

func (n *node) settlementArm(ctx context.Context, p armParams) (r settlementResult, err error) {
	when := settlement.After(seconds(min(p.DelaySeconds, math.MaxInt64/int64(time.Second))))
	if p.Height != 0 {
		if p.DelaySeconds != 0 {
			return r, invalid("delay_seconds and height exclude one another")
		}
		when = settlement.AtHeight(p.Height)
	}
	if p.DelaySeconds < 0 {
		return r, settlement.ErrActivation
	}
	if err := n.engine.Arm(ctx, when); err != nil {
		return r, err
	}
	n.engine.Wake()
	return n.settlementStatus(ctx, none{})
}

func (n *node) settlementCancelArm(ctx context.Context, _ none) (r settlementResult, err error) {
	if err := n.engine.CancelArm(ctx); err != nil {
		return r, err
	}
	return n.settlementStatus(ctx, none{})
}

type dryRunParams struct {
	Reason string `json:"reason"`
}

func (n *node) settlementDryRun(ctx context.Context, p dryRunParams) (r settlementResult, err error) {
	if len(p.Reason) > 1024 {
		return r, invalid("the reason is longer than 1024 bytes")
	}
	if p.Reason == "" {
		p.Reason = "asked for"
	}
	if err := n.engine.Stop(ctx, p.Reason); err != nil {
		return r, err
	}
	return n.settlementStatus(ctx, none{})
}

type heightParams struct {
	Height uint64 `json:"height"`
}

func (n *node) settlementHeight(ctx context.Context, p heightParams) (r settlementResult, err error) {
	if err := n.engine.ObserveHeight(ctx, p.Height); err != nil {
		return r, err
	}
	n.engine.Wake()
	return n.settlementStatus(ctx, none{})
}

type retryParams struct {
	Receipt receipt.Key `json:"receipt"`
}

func (n *node) settlementRetry(ctx context.Context, p retryParams) (r settlementResult, err error) {
	if err := n.engine.Retry(ctx, p.Receipt); err != nil {
		return r, err
	}
	return n.settlementStatus(ctx, none{})
}

type failuresResult struct {
	Failures []settlement.Failure `json:"failures"` // at most 1000
}

func (n *node) settlementFailures(ctx context.Context, _ none) (r failuresResult, err error) {
	r.Failures = []settlement.Failure{}
	for f, err := range n.engine.Failures(ctx) {
		if err != nil || len(r.Failures) == maxListed {
			return r, err
		}
		r.Failures = append(r.Failures, f)
	}
	return r, nil
}

// A transfer may carry an id of the caller's. Sent again after a lost answer, it
// then moves nothing a second time.
type creditsParams struct {
	ID      string `json:"id"`
	From    string `json:"from,omitempty"`
	To      string `json:"to,omitempty"`
	Account string `json:"account,omitempty"`
	Amount  uint64 `json:"amount"`
}

type creditsResult struct {
	Result   string    `json:"result"` // applied or duplicate
	Balances []balance `json:"balances"`
}

func (n *node) creditsIssue(ctx context.Context, p creditsParams) (creditsResult, error) {
	if p.From != "" || p.To != "" {
		return creditsResult{}, invalid("credits are issued to an account")
	}
	return n.transfer(ctx, "issue", p.ID, n.ledger.Issuer(), p.Account, p.Amount)
}

func (n *node) creditsTransfer(ctx context.Context, p creditsParams) (creditsResult, error) {
	if p.Account != "" || p.From == n.ledger.Issuer() {
		return creditsResult{}, invalid("a transfer goes from one account to another; credits_issue issues")
	}
	return n.transfer(ctx, "transfer", p.ID, p.From, p.To, p.Amount)
}

func (n *node) transfer(ctx context.Context, what, id, from, to string, amount uint64) (r creditsResult, err error) {
	if amount == 0 {
		return r, invalid("the amount is 0")
	}
	if len(id) > 256 {
		return r, invalid("the id is longer than 256 bytes")
	}
	if id == "" {
		id = rand.Text()
	}
	results, err := n.ledger.Post(ctx, settlement.Lease{}, []settlement.Transfer{{
		ID:   settlement.ID(workload.Sum([]byte(what + ":" + id))),
		From: from, To: to, Amount: amount, Tag: what,
	}})

	if err != nil {
		return r, err
	}
	n.engine.Wake()
	r.Result = results[0].String()
	for _, account := range []string{from, to} {
		if account != n.ledger.Issuer() {
			b, err := n.ledger.Balance(ctx, account)
			if err != nil {
				return r, err
			}
			r.Balances = append(r.Balances, balance{account, b})
		}
	}
	return r, nil
}

type accountParams struct {
	Account string `json:"account"`
}

func (n *node) creditsBalance(ctx context.Context, p accountParams) (r balance, err error) {
	if err := receipt.ValidateID(p.Account); err != nil {
		return r, err
	}
	r.Account = p.Account
	r.Balance, err = n.ledger.Balance(ctx, p.Account)
	return r, err
}
