package admission

import (
	"fmt"
	"runtime"
	"slices"
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
	r := t.find(key, now)
	if !t.within(r, now, cost) {
		return claim{}, t.withinAt(r, cost) - now
	}
	t.count(r)
	return r.charge(now, cost), 0
}

// consistent checks that each tenant has one record, which lookup finds.
func (t *tenants) consistent(tb interface{ Fatalf(string, ...any) }) {
	n := 0
	for i, r := range t.records[:len(t.records)-1] {
		if r.key == 0 {
			if r != (record{}) {
				tb.Fatalf("an empty record holds %+v", r)
			}
			continue
		}
		n++
		if at, ok := t.lookup(r.key); !ok || int(at) != i {
			tb.Fatalf("the record at %d is looked for at %d", i, at)
		}
	}
	if n != t.n || n > t.limit {
		tb.Fatalf("%d records, counted %d, at most %d", n, t.n, t.limit)
	}
}

// TestTenants holds a table against a map that never forgets. While there are no
// more tenants than the table has records, it says the same. When there are more,
// no tenant ever gets more than from the map, and none that is in use loses its
// record.
func TestTenants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Options{Tenants: rapid.SampledFrom([]int{1, 8, 20, 1024}).Draw(t, "size"), Burst: 2 * time.Second}
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
			tt.pass(now)
			// Keys that are looked for in few places, and at both ends of the table.
			id := rapid.Uint64Range(1, 20).Draw(t, "id")
			key := id<<32 | id%3*uint64(tt.mask/2)
			cost := rapid.Int64Range(1, int64(2*time.Second)).Draw(t, "cost")
			if len(claims) > 0 && rapid.IntRange(0, 3).Draw(t, "do") == 0 {
				c := claims[len(claims)-1]
				claims = claims[:len(claims)-1]
				plain[c.tenant] -= c.cost
				tt.give(c.claim, 1)
				continue
			}
			used := map[uint64]record{}
			for _, r := range tt.records {
				if r.key != 0 && r.key != key && tt.inUse(&r, now) {
					used[r.key] = r
				}
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
			} else if fits && o.Tenants >= 20 {
				t.Fatalf("tenant %d refused %d while %d ahead", key, cost, ahead)
			}
			tt.consistent(t)
			for k, r := range used {
				if at, ok := tt.lookup(k); !ok || tt.records[at] != r {
					t.Fatalf("tenant %d was in use and lost its record", k)
				}
			}
		}
	})
}

// TestEveryTenantHasARecord fills a table to the last with tenants of all ids, and
// with keys that all want the same place.
func TestEveryTenantHasARecord(t *testing.T) {
	for _, n := range []int{1, 2, 3, 64, 1000, 16384} {
		for _, shift := range []int{0, 20, 40} {
			if shift > 0 && n > 1000 {
				continue // each would be looked for behind all others
			}
			tt := table(t, n)
			now := origin
			tt.pass(now)
			for key := range uint64(n) {
				if _, wait := try(tt, (key+1)<<shift, now, int64(time.Hour)); wait != 0 {
					t.Fatalf("%d tenants: tenant %d has to wait %d", n, key, wait)
				}
			}
			tt.consistent(t)
			if tt.active != int64(n) || tt.n != n {
				t.Fatalf("%d tenants, %d active, %d records", n, tt.active, tt.n)
			}
			for key := range uint64(n) { // each has its own debt
				if r := tt.find((key+1)<<shift, now); r.key != (key+1)<<shift || r.tat != now+int64(time.Hour) {
					t.Fatalf("tenant %d: %+v", key, r)
				}
			}
		}
	}
}

// TestHonestAmongThousands has 5000 of 16384 tenants work within their shares and
// ten of them ask for all there is besides. They count as what they are, and one
// more within its share is never refused.
func TestHonestAmongThousands(t *testing.T) {
	const n, capacity = 5000, 1_000_000
	c := open(t, capacity, Options{CapacityAge: MaxDuration, Burst: 10 * time.Second, Leases: 1 << 16})
	ids := make([][2]string, n)
	for i := range ids {
		ids[i] = [2]string{fmt.Sprint("b", i), fmt.Sprint("p", i)}
	}
	for second := range 12 {
		now := start.Add(time.Duration(second) * time.Second)
		for _, id := range ids {
			want(t, c.DecideAt(ask(id[0], id[1], 30, time.Second), now), Admitted)
		}
		for i := range 100 {
			id := ids[i%10]
			c.DecideAt(ask(id[0], id[1], capacity/20, time.Second), now)
		}
		// A share is 200 shards, and this is half of that.
		want(t, c.DecideAt(ask("honest", "decent", 100, time.Second), now), Admitted)
		if a := c.books.buyers.active; a != n+1 || c.books.providers.active != a {
			t.Fatalf("%d tenants are active, want %d", a, n+1)
		}
	}
}

// TestWhoIsInUseStays floods a full table. Who owes, was admitted lately or waits
// for a turn keeps its record; newcomers borrow, which is all that is left, and
// owe nothing of what others owe.
func TestWhoIsInUseStays(t *testing.T) {
	tt := table(t, 64)
	now := origin
	tt.pass(now)
	for key := range uint64(64) {
		if _, wait := try(tt, key+1, now, int64(time.Hour)); wait != 0 {
			t.Fatal(wait)
		}
	}
	before := slices.Clone(tt.records)
	for key := range uint64(10_000) {
		r := tt.find(1000+key, now)
		if r != &tt.records[len(tt.records)-1] {
			t.Fatalf("newcomer %d has a record", key)
		}
		tt.count(r)
		if c := r.charge(now, 0); c != (claim{}) {
			t.Fatalf("claim %+v", c)
		}
	}
	if !slices.Equal(before, tt.records) || tt.active != 64 {
		t.Error("the flood changed something")
	}
	// A tenant that is in no use makes room, once somebody has looked that far.
	now += int64(time.Hour) + 1
	tt.pass(now)
	for key := range uint64(63) {
		try(tt, key+1, now, int64(time.Hour))
	}
	asks := 0
	for tt.find(5000, now).key == 0 {
		asks++
	}
	if most := (len(tt.records) - 1) / looks; asks > most {
		t.Errorf("asked %d times, want %d at most", asks, most)
	}
	if _, ok := tt.lookup(64); ok || tt.n != 64 {
		t.Error("not the idle one went")
	}
}

// TestForgetsThePaid sends many tenants one after the other through a table of
// one.
func TestForgetsThePaid(t *testing.T) {
	tt := table(t, 1)
	now := origin
	for key := range uint64(1000) {
		tt.pass(now)
		for range 2 {
			if _, wait := try(tt, key+1, now, tt.burst/2); wait != 0 {
				t.Fatalf("tenant %d has to wait %d", key+1, wait)
			}
		}
		if _, wait := try(tt, key+2, now+tt.burst, tt.burst/2); wait == 0 {
			t.Fatal("a tenant that was admitted lately is gone")
		}
		now += 3 * tt.burst
	}
}

// TestClaimsFollowTheirTenant moves a tenant up in the table and then gives back
// what it was charged.
func TestClaimsFollowTheirTenant(t *testing.T) {
	tt := table(t, 8)
	now := origin
	tt.pass(now)
	const home = 3
	for i := range uint64(4) {
		tt.find(home|(i+1)<<32, now)
	}
	c, _ := try(tt, home|4<<32, now, 100)
	r := tt.find(home|4<<32, now)
	r.turn = 77
	at, _ := tt.lookup(home | 1<<32)
	tt.remove(at)
	tt.consistent(t)
	tt.give(c, 0.6)
	if r := tt.find(home|4<<32, now); r.tat != now+40 || r.turn != 77 {
		t.Errorf("%+v", r)
	}
	at, _ = tt.lookup(home | 4<<32)
	tt.remove(at)
	tt.give(c, 0.4) // to nobody
	tt.consistent(t)
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
		try(tt, key+1, now, 1)
		tt.count(tt.find(key+1, now))
	}
	for i, want := range []int64{100, 100, 1, 1} {
		tt.pass(now + int64(i)*tt.length)
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
