package admission

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func table(t testing.TB, tenantCount int) *tenants {
	t.Helper()
	o, err := (&Options{Tenants: tenantCount, Burst: 2 * time.Second}).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	var tt tenants
	tt.init(o)
	return &tt
}

// try charges cost to a tenant if that is within its share.
func try(t *tenants, key uint64, now, cost int64) (c claim, wait int64) {
	at := t.find(key, now)
	if r := &t.records[at]; !t.within(r, now, cost) {
		return claim{}, t.wait(r, now, cost)
	}
	return t.charge(at, now, cost), 0
}

// TestTenants holds a table so small that all its tenants fight for records
// against a map that never forgets. The table may be stricter, as when tenants
// share a record, but no tenant ever gets more than from the map.
func TestTenants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Options{Tenants: rapid.SampledFrom([]int{1, 8, 1024}).Draw(t, "size"), Burst: 2 * time.Second}
		oo, _ := o.withDefaults()
		var tt tenants
		tt.init(oo)
		plain := map[uint64]int64{} // how far each tenant's work reaches
		type claimed struct {
			claim
			tenant uint64
		}
		var claims []claimed
		now := origin
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now += rapid.Int64Range(0, int64(time.Second)).Draw(t, "pause")
			key := rapid.Uint64Range(1, 20).Draw(t, "key")
			cost := rapid.Int64Range(1, int64(2*time.Second)).Draw(t, "cost")
			if len(claims) > 0 && rapid.IntRange(0, 3).Draw(t, "do") == 0 {
				c := claims[len(claims)-1]
				claims = claims[:len(claims)-1]
				plain[c.tenant] -= c.cost
				tt.give(c.claim, c.cost)
				continue
			}
			ahead := max(plain[key]-now, 0)
			fits := ahead == 0 || ahead+cost <= tt.burst
			c, wait := try(&tt, key, now, cost)
			if wait == 0 {
				if !fits {
					t.Fatalf("tenant %d got %d while %d ahead", key, cost, ahead)
				}
				plain[key] = now + ahead + cost
				claims = append(claims, claimed{c, key})
			} else if fits && o.Tenants == 1024 {
				t.Fatalf("tenant %d refused %d while %d ahead", key, cost, ahead)
			}
		}
	})
}

// TestEvictionKeepsDebt floods the table around a tenant that owes.
func TestEvictionKeepsDebt(t *testing.T) {
	tt := table(t, 1)
	now, long := origin, int64(time.Hour)
	const debtor = 1 << 40
	if _, wait := try(tt, debtor, now, long); wait != 0 {
		t.Fatal(wait)
	}
	for key := range uint64(10_000) {
		try(tt, key+1, now, long)
		if _, wait := try(tt, debtor, now, 1); wait == 0 {
			t.Fatalf("after %d others the debtor is fresh", key+1)
		}
	}
	// The set is full of debtors: whoever else comes shares one bucket, and has
	// not got a burst each.
	got := 0
	for key := range uint64(1000) {
		if _, wait := try(tt, 1<<50+key, now, tt.burst/2); wait == 0 {
			got++
		}
	}
	if got > 0 {
		t.Errorf("%d of 1000 newcomers got a fresh burst", got)
	}
	// And who moves out of the shared record takes its debt along.
	for key := range uint64(ways) {
		try(tt, key+1, now+long+10, long)
	}
	const mover = 1 << 51
	try(tt, mover, now+long+100, long) // on the shared record
	if _, wait := try(tt, mover, now+2*long+11, tt.burst); wait != 89 {
		t.Errorf("moved with %d of 89 to wait", wait)
	}
}

// TestForgetsThePaid sends many tenants one after the other through one set; as
// each finds the others' debts paid, each finds a record of its own.
func TestForgetsThePaid(t *testing.T) {
	tt := table(t, 1)
	now := origin
	for key := range uint64(1000) {
		for range 2 {
			if c, wait := try(tt, key+1, now, tt.burst/2); wait != 0 || tt.records[c.at].key != key+1 {
				t.Fatalf("tenant %d has to wait %d, on record %d", key+1, wait, c.at)
			}
		}
		now += tt.burst/ways + 1
	}
}

// TestManyIDs sends ten million different ids through a controller.
func TestManyIDs(t *testing.T) {
	n := 10_000_000
	if testing.Short() {
		n = 200_000
	}
	c := open(t, 1000, Options{CapacityAge: MaxDuration})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r := ask("", "", 1, time.Millisecond)
	buyer, provider := []byte("buyer-00000000"), []byte("provider-00000000")
	now := start
	admitted := 0
	ids := make([]string, 1000)
	for i := range n / 1000 {
		for j := range ids {
			k := i*1000 + j
			for d := 1; d <= 8; d++ {
				digit := byte('0' + k%10)
				buyer[len(buyer)-d], provider[len(provider)-d] = digit, digit
				k /= 10
			}
			ids[j] = string(buyer) + string(provider)
		}
		for _, id := range ids {
			now = now.Add(500 * time.Nanosecond)
			r.Buyer, r.Provider = id[:len(buyer)], id[len(buyer):]
			if c.DecideAt(r, now).Code == Admitted {
				admitted++
			}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d ids, %d admitted, heap grew by %d bytes", n, admitted, grown)
	if grown > 1<<20 {
		t.Errorf("heap grew by %d bytes", grown)
	}
	runtime.KeepAlive(c)
}

// TestOneRecordPerTenant lets many goroutines bring the same new tenants at once.
func TestOneRecordPerTenant(t *testing.T) {
	for range 50 {
		c := open(t, 1000, Options{CapacityAge: time.Hour})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for i := range 32 {
					c.DecideAt(ask(fmt.Sprint(i), "p", 1, time.Millisecond), start)
				}
			})
		}
		wg.Wait()
		seen, n := map[uint64]bool{}, 0
		for _, r := range c.books.buyers.records {
			if r.key != 0 {
				seen[r.key] = true
				n++
			}
		}
		if len(seen) != 32 || n != 32 || c.books.buyers.active != 32 {
			t.Fatalf("32 tenants have %d records under %d keys, %d active", n, len(seen), c.books.buyers.active)
		}
	}
}

// TestActive counts tenants that were admitted, over two epochs.
func TestActive(t *testing.T) {
	tt := table(t, 1024)
	now := origin
	tt.pass(now)
	for key := range uint64(100) {
		c, _ := try(tt, key+1, now, 1)
		tt.count(c.at)
		tt.count(c.at)
	}
	for i, want := range []int64{100, 100, 1, 1} {
		tt.pass(now + int64(i)*tt.burst)
		if got := tt.active; got != want {
			t.Errorf("epoch %d: %d active, want %d", i, got, want)
		}
	}
	if got := tt.scale(1000); got != 4000 {
		t.Errorf("one tenant alone has a share of 1/4: 1000 cost %d", got)
	}
	// However many they are, no job costs a tenant more than a hundred bursts.
	tt.setActive(1 << 24)
	if got := tt.scale(int64(24 * time.Hour)); got != int64(200*time.Second) {
		t.Errorf("a day of all capacity costs %v", time.Duration(got))
	}
	if got := tt.scale(3); got != 3<<24 {
		t.Errorf("3 cost %d", got)
	}
}

func ExampleController_Status() {
	c, err := New(nil)
	if err != nil {
		panic(err)
	}
	now := time.Now()
	fmt.Println(c.StatusAt(now).Mode)
	c.ObserveCapacityAt(64, now)
	s := c.StatusAt(now)
	fmt.Println(s.Mode, s.Capacity, s.Leased)
	// Output:
	// brownout
	// normal 64 0
}
