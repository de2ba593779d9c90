// Package computemarket is the overview of an embeddable library for a compute
// market; it holds no code.
//
// Buyers bid for work on job slices, providers ask a price, a match makes a
// receipt, the receipt moves credits exactly once, and a proof hash shows that
// the work was done. A node imports the packages it needs and composes them.
//
// # Packages
//
//	workload           run slices, proof hashes
//	workload/verify    who is believed: replicas, commit and reveal, audits
//	admission          lanes, capacity, fee comfort, fair share
//	priceboard         sliding window, quantile bands, persistence
//	receipt            receipts, their keys, the append-only log
//	settlement         engine, ledger, modes: credits move exactly once
//	settlement/match   order book and match loop
//	settlement/market  orders that last, their work, and what became of them
//	courier            store and forward bundles, earn for it
//
// A core package imports neither a database nor a metrics system. Stores and
// collectors are subpackages named after what they stand on, such as
// priceboard/priceboardprom.
//
// # Flow
//
// Data goes one way, and imports follow it:
//
//	orders ─▶ admission ─▶ match.Book ─▶ match.Loop ─▶ receipt.Store ─▶ settlement.Engine ─▶ Ledger
//	                                         │ price
//	slices ─▶ workload.Runner ─▶ proof       ▼
//	                                     priceboard.Board
//	bundles ─▶ courier.Send ─▶ courier.Store ─▶ Flush ─▶ Forwarder ─▶ reward on Ledger
//
// # Composition
//
// There is no global state and no init side effect, and no goroutine runs that
// the caller did not start. Constructors take what they need and an Options
// struct, which may be nil. A market on one database in five parts:
//
//	db, err := pebbledb.Open("data", nil)
//	receipts, err := receiptpebble.New(db, nil)
//	ledger, err := settlementpebble.NewLedger(db, nil)
//	state, err := settlementpebble.NewStore(db, nil)
//	engine, err := settlement.Open(ctx, receipts, ledger, state, &settlement.Options{
//		Start:   settlement.After(0), // a new market is real; later starts find it as it was left
//		Leading: func(ctx context.Context) error { return loop.Run(ctx) },
//	})
//
//	book, err := match.NewBook(nil)
//	loop, err := match.NewLoop(book, receipts, &match.LoopOptions{
//		Engine:   engine,
//		Finalize: runAndVerify, // workload.Runner and SliceProof.Verify
//		OnFinal:  func(m match.Match, _ receipt.Receipt) { board.Record(m.Price) },
//	})
//
//	err = engine.Run(ctx) // takes the lead, settles, and runs the loop meanwhile
//
// A receipt that is made before the engine is Real is a dry run: nobody is ever
// paid for it. This is why the loop runs only while the engine leads, and why a
// market that shall pay says Start, or calls Engine.Arm, before its first match.
//
// The examples below are programs: one slice and its proof, and a market in
// memory from order to paid receipt. examples/run_workload runs slices from
// files; examples/node is a node that assembles everything.
package computemarket
