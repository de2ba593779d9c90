package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/creachadair/jrpc2"
	"github.com/creachadair/jrpc2/jhttp"
	"github.com/creachadair/jrpc2/server"

	"github.com/computemarket/computemarket/settlement"
)

// cli is what commands work with: a client of the running node, or of the same
// methods over the data dir of one that is stopped.
type cli struct {
	ctx      context.Context
	dir      string
	json     bool
	out, err io.Writer
	progress io.Writer // of what takes long
}

// call calls a method and prints its result: as JSON, or by show.
func call[R any](c *cli, method string, params any, show func(*table, R)) error {
	return c.with(func(client *jrpc2.Client) error {
		var r R
		if err := client.CallResult(c.ctx, method, params, &r); err != nil {
			return said(err)
		}
		return print(c, r, show)
	})
}

func print[R any](c *cli, r R, show func(*table, R)) error {
	if c.json {
		e := json.NewEncoder(c.out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	t := &table{tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)}
	show(t, r)
	return t.w.Flush()
}

// said is the sentence of an error that came over RPC.
func said(err error) error {
	if e, ok := errors.AsType[*jrpc2.Error](err); ok {
		return errors.New(e.Message)
	}
	return err
}

// with gives f a client. Whether a node runs, the lock on its data tells.
func (c *cli) with(f func(*jrpc2.Client) error) error {
	cfg, err := readConfig(c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is no data dir: run a node in it first, or init it", c.dir)
	}
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		n, err := openNode(c.ctx, c.dir, cfg, slog.New(slog.DiscardHandler))
		if err == nil {
			os.Remove(filepath.Join(c.dir, addressName)) // of a node that was killed
			// Another node settles if this takes time. What needs an engine then says so.
			lead, cancel := context.WithTimeout(c.ctx, 2*time.Second)
			if err := n.engine.Lead(lead); err != nil && lead.Err() == nil {
				cancel()
				return errors.Join(err, n.Close())
			}
			cancel()
			local := server.NewLocal(n.methods(c.ctx), &server.LocalOptions{
				Server: &jrpc2.ServerOptions{Concurrency: 8},
			})
			return errors.Join(f(local.Client), local.Close(), n.Close())
		}
		if !errors.Is(err, settlement.ErrLocked) {
			return err
		}
		address, err := os.ReadFile(filepath.Join(c.dir, addressName))
		if err == nil {
			return c.dial(string(address), cfg, f)
		}
		if try == 50 || c.ctx.Err() != nil { // it is starting or stopping, or another command has it
			return fmt.Errorf("%s is in use by a process that does not answer", c.dir)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (c *cli) dial(address string, cfg *config, f func(*jrpc2.Client) error) error {
	var t token
	if cfg.TokenFile != "" {
		var err error
		if t, err = readToken(resolve(c.dir, cfg.TokenFile)); err != nil {
			return err
		}
	}
	client := jrpc2.NewClient(jhttp.NewChannel("http://"+address+"/rpc", &jhttp.ChannelOptions{
		Client: tokenClient{t},
	}), nil)
	return errors.Join(f(client), client.Close())
}

// tokenClient shows the token with each call.
type tokenClient struct{ token token }

func (t tokenClient) Do(r *http.Request) (*http.Response, error) {
	for name, values := range t.token.header() {
		r.Header[name] = values
	}
	return http.DefaultClient.Do(r)
}

// table lines up what people read.
type table struct{ w *tabwriter.Writer }

func (t *table) row(cells ...any) {
	texts := make([]string, len(cells))
	for i, c := range cells {
		texts[i] = fmt.Sprint(c)
	}
	line := strings.TrimRight(strings.Join(texts, "\t"), "\t") // a last cell is not padded
	fmt.Fprintln(t.w, line)
}
