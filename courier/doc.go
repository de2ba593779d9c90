// Package courier carries bundles for nodes without a steady link: it stores a
// receipt for each, forwards them when the link is back, and earns for it.
//
// [Courier.Send] hashes a bundle as it streams and stores a [Receipt], durably,
// before it returns. [Courier.Flush] forwards what is pending through a
// [Forwarder], such as an [HTTPForwarder] to a peer that serves [NewHandler].
// For each receipt three things happen in this order:
//
//  1. the peer takes it, and says so;
//  2. the [Rewarder], if there is one, credits the carrier, once per receipt ID;
//  3. the receipt is acknowledged, in one write with others.
//
// A crash between two of them makes the next flush begin again with the first:
// the peer knows the ID and answers that it has it, the rewarder knows the ID
// and credits nothing. So nothing is lost and nothing is rewarded twice.
//
// Where [Options.Bundles] is set, the bundles themselves are carried, and each
// is removed once no receipt needs it. A receipt that the peer refuses for good,
// that has grown too old, or whose bundle is damaged, is kept as [Dead] until it
// is requeued or discarded.
//
// Receipts live in a [Store]; package courierpebble has one. Memory stays the
// same whatever the queue holds.
package courier
