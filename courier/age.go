package courier

import (
	"math"
	"time"
)

// age is how the lifetime of receipts is counted: not by the instant at which
// they were sent, which a clock that was wrong then or is wrong now makes
// nonsense of, but by the time that couriers on this store have seen pass since
// the first flush that met them. Time in which no courier ran does not count.
type age struct {
	seen  time.Time     // the last reading of this process
	lived time.Duration // the time seen to pass since the store was new
	marks []mark        // ascending in both
}

// mark says that the receipts up to seq were there when so much had been lived.
type mark struct {
	seq   uint64
	lived time.Duration
}

// ageSteps is in how many steps a lifetime is counted: so much of it a receipt
// may live too long.
const ageSteps = 64

// pass is told the time. Between two readings of the system's clock, or of another
// whose readings have a monotonic part, exactly what lies between them has passed.
// Others may have been set: one such reading claims no more than an eighth of the
// lifetime.
func (a *age) pass(now time.Time, system bool, lifetime time.Duration) {
	passed := time.Duration(0)
	if !a.seen.IsZero() {
		passed = max(0, now.Sub(a.seen))
	}
	if !system && !(monotonic(now) && monotonic(a.seen)) {
		passed = min(passed, lifetime/8)
	}
	a.seen = now
	a.lived += min(passed, math.MaxInt64-a.lived)
}

func monotonic(t time.Time) bool { return t != t.Round(0) }

// see is told the greatest Seq there is.
func (a *age) see(last uint64, lifetime time.Duration) {
	if lifetime == 0 || last == 0 {
		return
	}
	if n := len(a.marks); n > 0 && (last <= a.marks[n-1].seq || a.lived-a.marks[n-1].lived < lifetime/ageSteps) {
		return
	}
	a.marks = append(a.marks, mark{last, a.lived})
	for len(a.marks) > 1 && a.lived-a.marks[1].lived > lifetime {
		a.marks = a.marks[1:]
	}
}

// expired returns the greatest Seq of which it is known that it is older than
// lifetime, or 0.
func (a *age) expired(lifetime time.Duration) (seq uint64) {
	for _, m := range a.marks {
		if lifetime > 0 && a.lived-m.lived > lifetime {
			seq = m.seq
		}
	}
	return seq
}
