package admission

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func TestInvalid(t *testing.T) {
	long := strings.Repeat("x", MaxID+1)
	for name, tc := range map[string]struct {
		change func(*Request)
		err    error
	}{
		"no lane":            {func(r *Request) { r.Lane = 0 }, ErrLane},
		"unknown lane":       {func(r *Request) { r.Lane = 3 }, ErrLane},
		"no job":             {func(r *Request) { r.JobID = "" }, ErrID},
		"long job":           {func(r *Request) { r.JobID = long }, ErrID},
		"no buyer":           {func(r *Request) { r.Buyer = "" }, ErrID},
		"long buyer":         {func(r *Request) { r.Buyer = long }, ErrID},
		"no provider":        {func(r *Request) { r.Provider = "" }, ErrID},
		"long provider":      {func(r *Request) { r.Provider = long }, ErrID},
		"no shards":          {func(r *Request) { r.Shards = 0 }, ErrDemand},
		"too many shards":    {func(r *Request) { r.Shards = MaxShards + 1 }, ErrDemand},
		"all shards":         {func(r *Request) { r.Shards = math.MaxUint64 }, ErrDemand},
		"neither":            {func(r *Request) { r.Duration = 0 }, ErrDemand},
		"both":               {func(r *Request) { r.Demand = 1 }, ErrDemand},
		"negative":           {func(r *Request) { r.Duration = -1 }, ErrDemand},
		"most negative":      {func(r *Request) { r.Duration = math.MinInt64 }, ErrDemand},
		"too long":           {func(r *Request) { r.Duration = MaxDuration + 1 }, ErrDemand},
		"product overflows":  {func(r *Request) { r.Shards, r.Duration = MaxShards, MaxDuration }, ErrDemand},
		"demand overflows":   {func(r *Request) { r.Duration, r.Demand = 0, math.MaxUint64 }, ErrDemand},
		"demand is too long": {func(r *Request) { r.Duration, r.Demand, r.Shards = 0, 1<<60, 1000 }, ErrDemand},
	} {
		for _, lane := range Lanes {
			r := ask("b", "p", 1, time.Second)
			r.Lane = lane
			tc.change(&r)
			if r.plain() {
				t.Errorf("%s: passes for plain", name)
			}
			c := open(t, 100, Options{})
			d := c.DecideAt(r, start)
			if d.Code != Invalid || !errors.Is(r.Validate(), tc.err) || d.RetryAfter != 0 || d.Lease != (Lease{}) {
				t.Errorf("%s: %+v, %v, want Invalid with %v", name, d, r.Validate(), tc.err)
			}
			if s := c.StatusAt(start); s.Leased != 0 || s.IndustrialDeferred != 0 {
				t.Errorf("%s: something was kept: %+v", name, s)
			}
		}
	}
}

func TestZeroDecisionAdmitsNothing(t *testing.T) {
	if d := (Decision{}); d.Code == Admitted {
		t.Fatal(d)
	}
}

// TestLimits takes the largest requests that are well-formed.
func TestLimits(t *testing.T) {
	id := strings.Repeat("x", MaxID)
	for name, r := range map[string]Request{
		"shards":   {Shards: MaxShards, Duration: time.Second},
		"duration": {Shards: 1, Duration: MaxDuration},
		"demand":   {Shards: MaxShards, Demand: 1 << 62},
		"least":    {Shards: MaxShards, Demand: 1},
	} {
		r.JobID, r.Buyer, r.Provider = id, id, id
		for _, lane := range Lanes {
			r.Lane = lane
			c := open(t, 0, Options{})
			if d := c.DecideAt(r, start); d.Code == Invalid {
				t.Errorf("%s: %v", name, r.Validate())
			}
			// A huge consumer counts as a full burst at most, and its shards come back.
			c.ObserveCapacityAt(100, start)
			d := c.DecideAt(r, start)
			if lane == Consumer && (d.Code != Admitted || !c.ReleaseAt(d.Lease, start)) {
				t.Errorf("%s: %+v", name, d)
			}
			if s := c.StatusAt(start); lane == Consumer && name != "duration" && s.Leased > r.Shards {
				t.Errorf("%s: %+v", name, s)
			}
		}
	}
}

// TestPlain shows that the short way gives the answer of the long one.
func TestPlain(t *testing.T) {
	edges := []uint64{0, 1, 2, usualShards, usualShards + 1, MaxShards, MaxShards + 1, usualDuration, usualDuration + 1,
		uint64(MaxDuration), uint64(MaxDuration) + 1, 1 << 63, math.MaxUint64}
	plain := 0
	for _, shards := range edges {
		for _, length := range edges {
			for _, demand := range edges[:3] {
				r := ask("b", "p", shards, time.Duration(length))
				r.Demand = demand
				if !r.plain() {
					continue
				}
				plain++
				if got, f := r.check(); got != int64(r.Duration) || f != wellFormed {
					t.Errorf("%+v: %d, %v", r, got, faults[f])
				}
			}
		}
	}
	if plain != 3*7 {
		t.Errorf("%d requests are plain", plain)
	}
}

// TestDemand shows that duration and demand are two ways to say one thing.
func TestDemand(t *testing.T) {
	for _, tc := range []struct {
		shards, demand uint64
		want           time.Duration
	}{
		{1, 1, time.Microsecond},
		{4, 10_000_000, 2500 * time.Millisecond},
		{3, 1, 334}, // a third of a microsecond, rounded up
		{MaxShards, 1, 1},
	} {
		r := ask("b", "p", tc.shards, 0)
		r.Demand = tc.demand
		if got, f := r.check(); time.Duration(got) != tc.want || f != wellFormed {
			t.Errorf("%d on %d shards: %v, %v, want %v", tc.demand, tc.shards, got, faults[f], tc.want)
		}
	}
}

func TestCodeText(t *testing.T) {
	seen := map[string]bool{}
	for c := range Code(codes) {
		b, err := c.MarshalText()
		if err != nil || len(b) == 0 || string(b) != c.String() || seen[c.String()] {
			t.Errorf("%d: %q, %v", c, b, err)
		}
		seen[c.String()] = true
	}
	if s := Code(200).String(); s != "code(200)" {
		t.Error(s)
	}
}

// TestEachCode reaches every code, and takes each refusal at its word: after
// RetryAfter with nothing else happening, its cause is gone.
func TestEachCode(t *testing.T) {
	small := ask("b", "p", 1, time.Second)
	const capacity = 100
	for code, tc := range map[Code]struct {
		make func(*Controller) Request
		then Code // after RetryAfter
	}{
		Admitted: {func(*Controller) Request { return small }, Admitted},
		Invalid:  {func(*Controller) Request { return Request{} }, Invalid},
		TooLarge: {func(*Controller) Request { return ask("b", "p", capacity+1, time.Second) }, TooLarge},
		DeferredTight: {func(c *Controller) Request {
			tighten(c, start)
			want(t, c.DecideAt(ask("first", "p", 1, time.Second), start), Admitted) // its turn
			return small
		}, Admitted},
		Capacity: {func(c *Controller) Request {
			want(t, c.DecideAt(consumer(capacity, 3*time.Second), start), Admitted)
			return small
		}, Admitted},
		BuyerShare: {func(c *Controller) Request {
			return exhaust(t, c, func(i int) Request { return ask("b", string(rune('A'+i)), 10, time.Second) }, BuyerShare)
		}, Admitted},
		ProviderShare: {func(c *Controller) Request {
			return exhaust(t, c, func(i int) Request { return ask(string(rune('A'+i)), "p", 10, time.Second) }, ProviderShare)
		}, Admitted},
		BurstExhausted: {func(c *Controller) Request {
			return exhaust(t, c, func(i int) Request {
				return ask(string(rune('A'+i)), string(rune('A'+i)), 10, time.Second)
			}, BurstExhausted)
		}, Admitted},
		Brownout: {func(c *Controller) Request {
			c.ObserveCapacityAt(0, start)
			return small
		}, Brownout},
		StaleSignal: {func(c *Controller) Request { return small }, StaleSignal},
	} {
		o := Options{MinCapacity: 10, Burst: 10 * time.Second}
		c := open(t, capacity, o)
		if code == StaleSignal {
			c = open(t, 0, o)
		}
		r := tc.make(c)
		d := want(t, c.DecideAt(r, start), code)
		if d.RetryAfter < 0 || (d.RetryAfter == 0) != (tc.then == code && code != Brownout && code != StaleSignal) {
			t.Errorf("%v: retry after %v", code, d.RetryAfter)
		}
		if code == BuyerShare || code == ProviderShare || code == BurstExhausted {
			if d := c.DecideAt(r, start.Add(d.RetryAfter-1)); d.Code != code {
				t.Errorf("%v: before its time: %v", code, d.Code)
			}
		}
		want(t, c.DecideAt(r, start.Add(d.RetryAfter)), tc.then)
	}
}

// exhaust releases what it is admitted, having used all of it, until it meets
// code; it returns the refused request.
func exhaust(t *testing.T, c *Controller, next func(int) Request, code Code) Request {
	t.Helper()
	for i := range 1000 {
		r := next(i)
		d := c.DecideAt(r, start)
		if d.Code == code {
			return r
		}
		want(t, d, Admitted)
		spend(c, d.Lease)
	}
	t.Fatalf("never met %v", code)
	return Request{}
}
