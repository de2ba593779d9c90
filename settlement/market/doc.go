// Package market puts the concerns of a compute market together: orders that
// survive a restart, admission, the work of a match, receipts, and what became
// of each order.
package market
