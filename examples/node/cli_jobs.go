package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/creachadair/jrpc2"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/workload"
)

type offerCommand struct {
	Provider string        `arg:"" help:"The account that is paid."`
	Units    uint64        `arg:"" help:"How many slices."`
	Price    uint64        `arg:"" help:"The least for a slice."`
	Lane     string        `default:"consumer" enum:"consumer,industrial"`
	For      time.Duration `help:"How long the offer stands. Always, if not given."`
	ID       string        `help:"Post once under this id."`
}

func (o offerCommand) Run(c *cli) error {
	lane, err := admission.ParseLane(o.Lane)
	if err != nil {
		return err
	}
	return call(c, "offer_post", offerParams{
		ID: o.ID, Provider: o.Provider, Lane: lane, Units: o.Units, Price: o.Price, Expires: until(o.For),
	}, func(t *table, r offer) {
		t.row("offer", r.ID)
		t.row("slices", r.Units)
		t.row("price", r.Price)
	})
}

func until(d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return time.Now().Add(d).UTC().Truncate(time.Second)
}

type submitCommand struct {
	Files     []string      `arg:"" help:"Slices." type:"existingfile"`
	Buyer     string        `required:"" help:"The account that pays."`
	Kind      string        `default:"transcode" help:"transcode or inference."`
	Reference []string      `help:"The proof expected of each slice, in order. Computed here if not given."`
	Price     *uint64       `help:"The most for a slice. What the price board advises, if not given."`
	Lane      string        `default:"consumer" enum:"consumer,industrial"`
	For       time.Duration `help:"How long the job may wait. Always, if not given."`
	ID        string        `help:"Submit once under this id."`
	Wait      bool          `help:"Wait until the job is over."`
}

func (s submitCommand) Run(c *cli) error {
	lane, err := admission.ParseLane(s.Lane)
	if err != nil {
		return err
	}
	if n := len(s.Reference); n != 0 && n != len(s.Files) {
		return fmt.Errorf("%d references for %d slices", n, len(s.Files))
	}
	p := jobParams{
		ID: s.ID, Buyer: s.Buyer, Lane: lane, Kind: workload.Kind(s.Kind), Price: s.Price, Expires: until(s.For),
	}
	runner, err := workload.New(nil)
	if err != nil {
		return err
	}
	for i, path := range s.Files {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		one := sliceParams{Content: &b}
		if len(s.Reference) > 0 {
			one.Reference, err = workload.ParseHash(s.Reference[i])
		} else {
			one.Reference, err = runner.Run(c.ctx, workload.Slice{ID: fmt.Sprint(i), Kind: p.Kind, Input: workload.Bytes(b)})
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		p.Slices = append(p.Slices, one)
	}
	return c.with(func(client *jrpc2.Client) error {
		var r jobResult
		if err := client.CallResult(c.ctx, "job_submit", p, &r); err != nil {
			return said(err)
		}
		for s.Wait && (r.State == "open" || !r.settled()) {
			select {
			case <-c.ctx.Done():
				return c.ctx.Err()
			case <-time.After(100 * time.Millisecond):
			}
			if err := client.CallResult(c.ctx, "job_status", idParams{r.ID}, &r); err != nil {
				return said(err)
			}
		}
		return print(c, r, showJob)
	})
}

// settled reports whether nothing of the job is still to be settled.
func (r *jobResult) settled() bool {
	for _, s := range r.Slices {
		if s.State == "done" && !s.DryRun && !s.Settled {
			return false
		}
	}
	return true
}

type jobStatusCommand struct {
	ID string `arg:""`
}

func (s jobStatusCommand) Run(c *cli) error { return call(c, "job_status", idParams(s), showJob) }

func showJob(t *table, r jobResult) {
	t.row("job", r.ID)
	t.row("state", r.State)
	t.row()
	t.row("SLICE", "STATE", "PROVIDER", "PRICE", "SETTLED", "PROOF")
	for i, s := range r.Slices {
		settled := ""
		switch {
		case s.State != "done":
		case s.DryRun:
			settled = "dry run"
		case s.Settled:
			settled = "yes"
		default:
			settled = "owed"
		}
		proof := ""
		if s.State == "done" {
			proof = s.Reference.String()
		}
		t.row(i, s.State, s.Provider, s.Price, settled, strings.TrimSpace(proof+" "+s.Reason))
	}
}

type cancelCommand struct {
	ID string `arg:""`
}

func (x cancelCommand) Run(c *cli) error {
	return call(c, "order_cancel", idParams(x), func(t *table, r cancelResult) {
		t.row("cancelled", r.ID)
		t.row("slices", r.Units)
	})
}

type pricesCommand struct{}

func (pricesCommand) Run(c *cli) error {
	type both struct {
		Bands     bandsResult     `json:"bands"`
		Admission admissionResult `json:"admission"`
	}
	return c.with(func(client *jrpc2.Client) error {
		var r both
		if err := client.CallResult(c.ctx, "price_bands", none{}, &r.Bands); err != nil {
			return said(err)
		}
		if err := client.CallResult(c.ctx, "admission_status", none{}, &r.Admission); err != nil {
			return said(err)
		}
		return print(c, r, func(t *table, r both) {
			t.row("P25", "MEDIAN", "P75", "PRICES")
			t.row(r.Bands.P25, r.Bands.Median, r.Bands.P75, r.Bands.Prices)
			t.row()
			t.row("LANE", "BIDS", "ASKS", "BEST BID", "BEST ASK")
			for _, l := range r.Admission.Lanes {
				t.row(l.Lane, l.Bids, l.Asks, price(l.BestBid), price(l.BestAsk))
			}
		})
	})
}

func price(p *uint64) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprint(*p)
}
