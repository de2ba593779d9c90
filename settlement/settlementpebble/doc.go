// Package settlementpebble keeps the ledger of credits and the state of a
// settlement engine on disk, in Pebble.
//
//	db, err := pebbledb.Open("data", nil)
//	ledger, err := settlementpebble.NewLedger(db, nil)
//	state, err := settlementpebble.NewStore(db, nil)
//
// One database can hold both, and the log of package receiptpebble besides.
// Callers that post at the same time are committed together, with one fsync.
// After a failed write every call returns settlement.ErrPoisoned until the
// database is opened again.
package settlementpebble
