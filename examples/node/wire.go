package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/admission/admissionprom"
	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/courierprom"
	"github.com/computemarket/computemarket/internal/durable"
	"github.com/computemarket/computemarket/priceboard"
	"github.com/computemarket/computemarket/priceboard/priceboardprom"
	"github.com/computemarket/computemarket/receipt/receiptprom"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/match"
	"github.com/computemarket/computemarket/settlement/match/matchprom"
	"github.com/computemarket/computemarket/settlement/settlementprom"
	"github.com/computemarket/computemarket/workload"
)

// node is all parts over one data dir. It does nothing by itself: run has the
// goroutines, and the handlers of RPC use it as it stands.
type node struct {
	dir string
	cfg *config
	log *slog.Logger

	stores
	engine   *settlement.Engine
	board    *priceboard.Board
	admit    *admission.Controller
	market   *market
	loop     *match.Loop
	courier  *courier.Courier
	flushes  flushes
	history  history
	inbox    *os.Root
	registry *prometheus.Registry

	token        token // of callers
	courierToken token // of peers that hand over bundles

	closers []func() error
}

// openNode opens the data dir, which one process holds at a time:
// settlement.ErrLocked says that another does.
func openNode(ctx context.Context, dir string, cfg *config, log *slog.Logger) (n *node, err error) {
	n = &node{dir: dir, cfg: cfg, log: log, registry: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	for _, open := range []func(context.Context) error{
		n.openStores, n.openBoard, n.openMarket, n.openCourier, n.openTokens,
	} {
		if err := open(ctx); err != nil {
			return n, err
		}
	}
	return n, nil
}

// Close closes what openNode opened, the last first.
func (n *node) Close() (err error) {
	for len(n.closers) > 0 {
		last := len(n.closers) - 1
		err = errors.Join(err, n.closers[last]())
		n.closers = n.closers[:last]
	}
	return err
}

func (n *node) closeLater(f func() error) { n.closers = append(n.closers, f) }

func (n *node) openStores(ctx context.Context) error {
	metrics := receiptprom.New(nil)
	n.registry.MustRegister(metrics, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	open := n.openPebble
	if n.cfg.Database != "" {
		open = n.openSQL
	}
	if err := open(ctx, metrics); err != nil {
		return err
	}
	return n.openEngine(ctx)
}

func (n *node) openEngine(ctx context.Context) (err error) {
	policy := settlement.RevertToDryRun
	if n.cfg.SettlementPolicy == "quarantine" {
		policy = settlement.Quarantine
	}
	metrics := settlementprom.New(nil)
	n.registry.MustRegister(metrics)
	n.engine, err = settlement.Open(ctx, n.receipts, n.ledger, n.state, &settlement.Options{
		// A receipt says whether it is a dry run, and only the engine that leads
		// knows. When the lead comes back the loop goes on with the book as it is:
		// nobody else has the files of its orders, or writes receipts for them, and
		// what it was appending when it stopped it appends again.
		Leading:  func(ctx context.Context) error { return n.loop.Run(ctx) },
		Policy:   policy,
		Interval: seconds(n.cfg.SettlementInterval),
		Logger:   n.log,
		Metrics:  metrics,
	})
	if err != nil {
		return err
	}
	n.closeLater(func() error { // so that another node need not wait for the lease to run out
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		return n.engine.Resign(ctx)
	})
	if n.cfg.Database == "" { // the only node on this Pebble
		return n.engine.Lead(ctx)
	}
	return nil
}

func (n *node) openBoard(ctx context.Context) error {
	path := resolve(n.dir, n.cfg.PriceBoardPath)
	if err := durable.MkdirAll(durable.OS{}, filepath.Dir(path), 0o700); err != nil {
		return err
	}
	board, err := priceboard.Open(ctx, priceboard.File(path, nil), &priceboard.Options{
		Window:       n.cfg.PriceBoardWindow,
		SaveInterval: seconds(n.cfg.PriceBoardSaveInterval),
		Logger:       n.log,
	})
	if err != nil {
		return err
	}
	n.board = board
	n.closeLater(board.Close)
	n.registry.MustRegister(priceboardprom.New(board, nil))
	return nil
}

func (n *node) openMarket(ctx context.Context) (err error) {
	limit := seconds(n.cfg.JobTimeLimit)
	n.admit, err = admission.New(&admission.Options{
		Logger:           n.log,
		ComfortThreshold: n.cfg.ComfortThreshold,
		FeeQuantile:      n.cfg.ComfortQuantile,
		Burst:            4 * limit, // so that one job may take all shards: half of it is what may be borrowed
	})
	if err != nil {
		return err
	}
	n.observeCapacity() // before the first job asks
	n.registry.MustRegister(admissionprom.NewCollector(n.admit, nil))

	contents, err := n.bundlesIn(filepath.Join(n.dir, "slices"))
	if err != nil {
		return err
	}
	m := &market{
		admit:    n.admit,
		board:    n.board,
		contents: contents,
		limit:    limit,
		jobs:     make(map[string]*job),
		offers:   make(map[string]*offer),
		leases:   make(map[string]admission.Lease),
		ends:     make(map[string]ending),
	}
	n.market = m
	if m.runner, err = workload.New(&workload.Options{Workers: n.cfg.JobWorkers}); err != nil {
		return err
	}
	if m.book, err = match.NewBook(&match.Options{Capacity: n.cfg.BookCapacity}); err != nil {
		return err
	}
	if m.jobFiles, err = openRecords[job](filepath.Join(n.dir, "jobs")); err != nil {
		return err
	}
	if m.askFiles, err = openRecords[offer](filepath.Join(n.dir, "offers")); err != nil {
		return err
	}
	inbox := resolve(n.dir, n.cfg.InboxPath)
	if err := durable.MkdirAll(durable.OS{}, inbox, 0o700); err != nil {
		return err
	}
	if n.inbox, err = os.OpenRoot(inbox); err != nil {
		return err
	}
	n.closeLater(n.inbox.Close)
	if err := m.restore(ctx, n.receipts); err != nil {
		return fmt.Errorf("orders: %w", err)
	}

	metrics := matchprom.New(nil)
	n.registry.MustRegister(metrics)
	n.loop, err = match.NewLoop(m.book, n.receipts, &match.LoopOptions{
		Finalize:  m.finalize,
		Parallel:  n.cfg.JobWorkers,
		Engine:    n.engine,
		OnFinal:   m.final,
		OnFailed:  m.failed,
		OnExpired: m.expired,
		Metrics:   metrics,
		Logger:    n.log,
	})
	return err
}

// bundlesIn claims a folder of bundles for as long as the node is open.
func (n *node) bundlesIn(path string) (courier.Bundles, error) {
	bundles := courier.DirBundles(path)
	n.closeLater(bundles.Close)
	return bundles, bundles.Prepare()
}

func (n *node) openCourier(context.Context) (err error) {
	bundles, err := n.bundlesIn(resolve(n.dir, n.cfg.CourierBundlesPath))
	if err != nil {
		return err
	}
	metrics := courierprom.New(nil)
	n.registry.MustRegister(metrics)
	n.courier, err = courier.New(n.bundles, &courier.Options{
		Bundles:     bundles,
		MaxBundle:   n.cfg.CourierMaxBundle,
		MaxAttempts: n.cfg.CourierAttempts,
		Backoff:     milliseconds(n.cfg.CourierBackoffMS),
		Rewarder:    rewarder{n.ledger},
		Account:     n.cfg.Account,
		Amount:      func(r courier.Receipt) uint64 { return n.cfg.CourierReward * mebibytes(r.Size) },
		Progress:    n.flushes.report,
		Metrics:     metrics,
		Logger:      n.log,
	})
	return err
}

func (n *node) openTokens(context.Context) (err error) {
	if n.token, err = openTokenOf(n.dir, n.cfg.TokenFile); err != nil {
		return err
	}
	n.courierToken, err = openTokenOf(n.dir, n.cfg.CourierTokenFile)
	return err
}

func openTokenOf(dir, path string) (token, error) {
	if path == "" {
		return "", nil
	}
	return openToken(resolve(dir, path))
}
