package main

import (
	"cmp"
	"time"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement"
)

type settlementStatusCommand struct{}

func (settlementStatusCommand) Run(c *cli) error {
	return call(c, "settlement_status", none{}, showSettlement)
}

func showSettlement(t *table, r settlementResult) {
	t.row("mode", r.Mode)
	if r.Standby {
		t.row("standby", "another node settles: "+cmp.Or(r.Leader, "none yet"))
	}
	if when := r.Becomes(); when != "" {
		t.row("becomes real", when)
	}
	if r.Reason != "" {
		t.row("because", r.Reason)
	}
	t.row("settled", r.Applied)
	t.row("owed", r.Owed)
	t.row("failed", r.Failed)
	t.row("outstanding", r.Outstanding)
	for _, b := range r.Balances {
		t.row("balance of "+b.Account, b.Balance)
	}
}

type settlementArmCommand struct {
	Delay  time.Duration `help:"Time to pass, in whole seconds." xor:"when"`
	Height uint64        `help:"Block height to reach." xor:"when"`
}

func (a settlementArmCommand) Run(c *cli) error {
	return call(c, "settlement_arm", armParams{int64(a.Delay / time.Second), a.Height}, showSettlement)
}

type settlementCancelArmCommand struct{}

func (settlementCancelArmCommand) Run(c *cli) error {
	return call(c, "settlement_cancel_arm", none{}, showSettlement)
}

type settlementDryRunCommand struct {
	Reason string `help:"Why, for the status."`
}

func (d settlementDryRunCommand) Run(c *cli) error {
	return call(c, "settlement_dry_run", dryRunParams(d), showSettlement)
}

type settlementHeightCommand struct {
	Height uint64 `arg:"" help:"The height."`
}

func (h settlementHeightCommand) Run(c *cli) error {
	return call(c, "settlement_height", heightParams(h), showSettlement)
}

type settlementRetryCommand struct {
	Receipt string `arg:"" help:"The receipt's key."`
}

func (r settlementRetryCommand) Run(c *cli) error {
	key, err := receipt.ParseKey(r.Receipt)
	if err != nil {
		return err
	}
	return call(c, "settlement_retry", retryParams{key}, showSettlement)
}

type settlementFailuresCommand struct{}

func (settlementFailuresCommand) Run(c *cli) error {
	return call(c, "settlement_failures", none{}, func(t *table, r failuresResult) {
		t.row("RECEIPT", "JOB", "BUYER", "PRICE", "REASON", "TRIES")
		for _, f := range r.Failures {
			showFailure(t, f)
		}
	})
}

func showFailure(t *table, f settlement.Failure) {
	t.row(f.Receipt.Key, f.Receipt.JobID, f.Receipt.Buyer, f.Receipt.QuotePrice, f.Reason, f.Tries)
}

type issueCommand struct {
	Account string `arg:""`
	Amount  uint64 `arg:""`
	ID      string `help:"Issue once under this id."`
}

func (i issueCommand) Run(c *cli) error {
	return call(c, "credits_issue", creditsParams{ID: i.ID, Account: i.Account, Amount: i.Amount}, showCredits)
}

type transferCommand struct {
	From   string `arg:""`
	To     string `arg:""`
	Amount uint64 `arg:""`
	ID     string `help:"Transfer once under this id."`
}

func (x transferCommand) Run(c *cli) error {
	return call(c, "credits_transfer", creditsParams{ID: x.ID, From: x.From, To: x.To, Amount: x.Amount}, showCredits)
}

func showCredits(t *table, r creditsResult) {
	t.row(r.Result)
	for _, b := range r.Balances {
		t.row("balance of "+b.Account, b.Balance)
	}
}

type balanceCommand struct {
	Account string `arg:""`
}

func (b balanceCommand) Run(c *cli) error {
	return call(c, "credits_balance", accountParams(b), func(t *table, r balance) {
		t.row("balance of "+r.Account, r.Balance)
	})
}
