package settlementpebble

import (
	"sync"

	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/settlement"
)

// fence is what the state and the ledger in one database share: the latest lease,
// and a lock that whoever writes under a lease holds for reading from the
// comparison to the end of the commit. Acquire holds it for writing, so that
// nothing moves under the lease before once it has returned.
type fence struct {
	mu     sync.RWMutex // taken before every other lock of this package
	latest settlement.Lease
	taken  bool // some lease was: an engine here has its state in this database
}

func fenceOf(db *kv.DB) *fence {
	return db.Shared("settlement fence", func() any { return new(fence) }).(*fence)
}

// take makes lease the latest. The lock is held for writing.
func (f *fence) take(lease settlement.Lease) { f.latest, f.taken = lease, true }

// checkPost returns why nothing may be posted under lease: callers who are no
// engine may, and engines whose state is elsewhere. The lock is held.
func (f *fence) checkPost(lease settlement.Lease) error {
	if lease.IsZero() || !f.taken {
		return nil
	}
	return lease.Check(f.latest)
}
