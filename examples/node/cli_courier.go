package main

import (
	"fmt"
	"os"
	"time"

	"github.com/creachadair/jrpc2"
)

type sendCommand struct {
	Bundle string `arg:"" help:"The bundle." type:"existingfile"`
	Sender string `arg:"" help:"Who it is from."`
	ID     string `help:"Send once under this id, 32 hexadecimal digits."`
}

func (s sendCommand) Run(c *cli) error {
	b, err := os.ReadFile(s.Bundle)
	if err != nil {
		return err
	}
	return call(c, "courier_send", sendParams{ID: s.ID, Sender: s.Sender, Content: &b}, func(t *table, r bundleResult) {
		t.row("receipt", r.ID)
		t.row("bundle", r.Bundle)
		t.row("bytes", r.Size)
		t.row("state", r.State)
	})
}

type flushCommand struct {
	To        string `help:"The peer's courier, such as http://peer:7788/courier. Defaults to courier_peer."`
	TokenFile string `help:"File with the courier token of a peer named with --to." type:"existingfile"`
}

func (f flushCommand) Run(c *cli) error {
	p := flushParams{To: f.To}
	if f.TokenFile != "" {
		t, err := readToken(f.TokenFile)
		if err != nil {
			return err
		}
		p.Token = string(t)
	}
	return c.with(func(client *jrpc2.Client) error {
		stop := c.follow(client)
		var r flushResult
		err := client.CallResult(c.ctx, "courier_flush", p, &r)
		stop()
		if err != nil {
			return said(err)
		}
		err = print(c, r, func(t *table, r flushResult) {
			t.row("forwarded", r.Forwarded)
			t.row("failed", r.Failed)
			t.row("rejected", r.Rejected)
			t.row("expired", r.Expired)
			t.row("damaged", r.Damaged)
			t.row("remaining", r.Remaining)
		})
		if err == nil && r.Failed > 0 {
			err = fmt.Errorf("the peer did not take %d of them, which stay pending: flush again later", r.Failed)
		}
		return err
	})
}

// follow tells every second how far a flush has come, until stop is called.
func (c *cli) follow(client *jrpc2.Client) (stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Second):
			}
			var r courierResult
			if client.CallResult(c.ctx, "courier_status", courierParams{}, &r) != nil || r.Flush == nil {
				continue
			}
			fmt.Fprintf(c.progress, "forwarded %d, failed %d, pending %d\n", r.Flush.Forwarded, r.Flush.Failed, r.Pending)
		}
	}()
	return func() {
		close(done)
		<-stopped
	}
}

type listCommand struct {
	State string `default:"pending" enum:"pending,acknowledged,dead" help:"pending, acknowledged or dead."`
	Limit int    `help:"The most to list." default:"1000"`
}

func (l listCommand) Run(c *cli) error {
	return call(c, "courier_status", courierParams(l), func(t *table, r courierResult) {
		t.row("pending", r.Pending)
		t.row("acknowledged", r.Acknowledged)
		t.row("dead", r.Dead)
		if len(r.Receipts) == 0 {
			return
		}
		t.row()
		t.row("RECEIPT", "SENDER", "BYTES", "SENT", "STATE", "REASON")
		for _, b := range r.Receipts {
			t.row(b.ID, b.Sender, b.Size, b.SentAt.Format(time.RFC3339), b.State, b.Reason)
		}
	})
}
