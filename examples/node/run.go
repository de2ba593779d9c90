package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// grace is how long answers may still take once the node is told to stop.
const grace = 10 * time.Second

// addressName is the file in which a running node tells where it listens.
const addressName = "address"

// runNode opens the data dir, serves until ctx ends, and shuts down in order. ready
// is told the address.
func runNode(ctx context.Context, dir string, cfg *config, log *slog.Logger, ready func(addr string)) (err error) {
	n, err := openNode(ctx, dir, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()

	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	address := filepath.Join(dir, addressName)
	if err := writeFile(address, []byte(listener.Addr().String())); err != nil {
		return err
	}
	defer os.Remove(address)
	return n.run(ctx, listener, ready)
}

// run serves until ctx ends or a part fails, and returns why. What stops later
// is what others lean on: first the callers, then the matches, whose finished
// work still becomes durable, then settlement, then the board, which is saved.
// While another node on the same database settles, this one waits to take over.
func (n *node) run(ctx context.Context, listener net.Listener, ready func(addr string)) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	handler, closeRPC := n.handler(ctx)
	defer closeRPC()
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(n.log.Handler(), slog.LevelDebug),
	}
	serve := start(stop, func(context.Context) error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	settling := start(stop, n.engine.Run) // and matching, while it leads
	saving := start(stop, n.board.Run)
	watching := start(stop, n.watch)

	addr := listener.Addr().String()
	n.log.Info("node started", "address", addr, "mode", n.engine.Mode())
	if ready != nil {
		ready(addr)
	}
	<-ctx.Done()
	n.log.Info("node stopping")

	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if server.Shutdown(wait) != nil {
		server.Close()
	}
	err := errors.Join(serve(), watching(), settling(), saving())
	n.log.Info("node stopped")
	return err
}

// start runs a part of the node. The function returned stops it and waits for
// its error. A part that ends by itself stops the node.
func start(stop context.CancelCauseFunc, part func(context.Context) error) (end func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var err error
	wg.Go(func() {
		err = part(ctx)
		stop(err)
	})
	return func() error {
		cancel()
		wg.Wait()
		return err
	}
}

const watchEvery = 5 * time.Second

// watch tells admission what capacity there is and keeps the bands for the page.
func (n *node) watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		n.observeCapacity()
		n.market.chargeRestored()
		n.history.observe(n.board.Bands())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (n *node) observeCapacity() { n.admit.ObserveCapacity(n.cfg.CapacityShards) }

// health is nil while disk or database answer.
func (n *node) health(ctx context.Context) error {
	if _, err := n.ledger.Balance(ctx, n.ledger.Issuer()); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	for _, err := range n.receipts.After(ctx, 1<<63) {
		return fmt.Errorf("receipts: %w", err)
	}
	return nil
}
