// Package market puts the concerns of a compute market together: orders that
// survive a restart, admission, the work of a match, receipts, and what became of
// each order.
//
//	db, err := pebbledb.Open("data", nil)
//	receipts, err := receiptpebble.New(db, nil)
//	ledger, err := settlementpebble.NewLedger(db, nil)
//	state, err := settlementpebble.NewStore(db, nil)
//	orders, err := marketpebble.New(db, receipts, nil)
//
//	var m *market.Market
//	engine, err := settlement.Open(ctx, receipts, ledger, state, &settlement.Options{
//		Start:   settlement.After(0),
//		Leading: func(ctx context.Context) error { return m.Run(ctx) },
//	})
//	m, err = market.New(orders, &market.Options{Engine: engine, Work: market.Local(runner)})
//	go engine.Run(ctx)
//
//	offer, err := m.Offer(ctx, market.Offer{Provider: "bob", Class: "transcode", Units: 5, Price: 20})
//	job, err := m.Submit(ctx, market.Job{Buyer: "alice", Kind: workload.Transcode, Price: 30, Slices: slices})
//	job, err = m.Wait(ctx, job.ID)
//
// # Orders
//
// A buyer submits a [Job]: slices, each of which is bought as one unit, or so many
// units of whatever a class trades. A provider posts an [Offer]. Both are durable
// when the call returns. An id names one order for ever: the same request under
// the same id is the same order, however often it is sent and whatever crashed in
// between; another request is [ErrRepeated].
//
// An order names a class, the kind of work that it buys or offers. Each class has
// a book of its own, and orders of different classes never meet.
//
// # Work and outcomes
//
// When a bid and an offer meet, Options.Work does the work, in this process. Its
// proof becomes a receipt, which the engine settles, and an [Outcome] of the job;
// both are one write. A slice that failed stays failed after a restart, and what
// was in flight matches again.
//
// # Memory
//
// What is open is in memory, without the contents of its slices; what is over is
// in the store alone. [Market.Orders] lists both page by page.
//
// [Store] keeps it all. Package marketpebble has one on disk and marketmem one in
// memory; markettest has the suite for your own.
package market
