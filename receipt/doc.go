// Package receipt holds the receipts of finalized matches: what they say, the
// key that makes each of them count once, and the append-only log that they
// stand in.
//
// A receipt is made by [New] and recorded by a [Store]:
//
//	r := receipt.New("job-7", "alice", "bob", 250, time.Now())
//	status, err := store.Append(ctx, []receipt.Receipt{r})
//
// Appending is idempotent: the same receipt again is a [Duplicate], however
// often it is sent and whatever crashed in between. Consumers read the log in
// order of its sequence numbers with Store.After and remember how far they came.
//
// receiptpebble keeps the log on disk, receipttest has one in memory and the
// conformance suite for your own.
package receipt
