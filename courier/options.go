package courier

import (
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"math"
	"time"
)

// Options of [New]. The zero value and nil are ready to use.
type Options struct {
	// Bundles keeps the bundles themselves; the store must then be a
	// [BundleIndex] too. Defaults to nil: receipts alone are carried.
	Bundles Bundles
	// MaxBundle is the size of the largest bundle taken, in bytes. Defaults to
	// 1 GiB.
	MaxBundle int64

	// Concurrency is how many receipts a flush forwards at once. Defaults to 16.
	Concurrency int
	// MaxAttempts is how often a flush tries one receipt. Defaults to 5.
	MaxAttempts int
	// Backoff is the wait after the first failed attempt, doubled after each
	// further one up to MaxBackoff. Up to half is added at random. Defaults to
	// 100 ms.
	Backoff time.Duration
	// MaxBackoff is the longest wait between two attempts, before the random
	// part. Defaults to 10 s.
	MaxBackoff time.Duration
	// MaxWaiting is how many receipts may wait for their next attempt, in
	// memory. While there are so many, the flush begins no new one. Defaults to
	// 4096.
	MaxWaiting int
	// Timeout ends an attempt that for so long neither returned nor read from
	// its bundle, so a large bundle may take its time on a slow link. Also the
	// time that a cancelled flush gives reward and acknowledgement of what was
	// forwarded already. Defaults to 30 s.
	Timeout time.Duration
	// StopAfter ends a flush with ErrPeerDown when the first attempts of so many
	// receipts in a row failed and no attempt succeeded meanwhile. Negative:
	// never. Defaults to 32.
	StopAfter int
	// GroupSize is how many receipts are at most acknowledged in one write. What
	// is ready earlier does not wait for others. Defaults to 256.
	GroupSize int
	// Lifetime is the age at which a receipt that was not forwarded becomes
	// Dead, seen to by Flush. Defaults to 0: never.
	Lifetime time.Duration

	// Rewarder credits the carrier for what it forwarded. Defaults to nil: no
	// rewards.
	Rewarder Rewarder
	// Account is the carrier's own. Required with a Rewarder.
	Account string
	// Amount is what a receipt is worth. It must give the same for the same
	// receipt at any time, since a credit repeated after a crash must be the
	// same credit; the fields that it may use are those before State. Receipts worth 0 are not credited. Required with a Rewarder.
	Amount func(Receipt) uint64

	// Progress is called by Flush, on its own goroutine, after each group. The
	// Remaining of its reports is 0. Defaults to nil.
	Progress func(Report)
	// Metrics defaults to nil: none.
	Metrics Metrics
	// Logger defaults to discarding.
	Logger *slog.Logger
	// Clock defaults to the system's. Waits and timeouts do not use it.
	Clock Clock
	// Rand is where IDs come from. Defaults to crypto/rand.
	Rand io.Reader
}

func (opts *Options) withDefaults() (Options, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	switch {
	case o.MaxBundle < 0, o.Concurrency < 0, o.MaxAttempts < 0, o.Backoff < 0, o.MaxBackoff < 0,
		o.MaxWaiting < 0, o.Timeout < 0, o.GroupSize < 0, o.Lifetime < 0:
		return Options{}, fmt.Errorf("%w: a negative option", ErrOptions)
	case o.Rewarder != nil && (o.Account == "" || o.Amount == nil):
		return Options{}, fmt.Errorf("%w: a Rewarder needs Account and Amount", ErrOptions)
	}
	o.MaxBundle = or(o.MaxBundle, 1<<30)
	o.Concurrency = or(o.Concurrency, 16)
	o.MaxAttempts = or(o.MaxAttempts, 5)
	o.Backoff = or(o.Backoff, 100*time.Millisecond)
	o.MaxBackoff = max(or(o.MaxBackoff, 10*time.Second), o.Backoff)
	o.MaxWaiting = or(o.MaxWaiting, 4096)
	o.Timeout = or(o.Timeout, 30*time.Second)
	o.GroupSize = or(o.GroupSize, 256)
	if o.StopAfter = or(o.StopAfter, 32); o.StopAfter < 0 {
		o.StopAfter = math.MaxInt
	}
	if o.Metrics == nil {
		o.Metrics = noMetrics{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = systemClock{}
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	return o, nil
}

func or[T comparable](v, standard T) T {
	var zero T
	if v == zero {
		return standard
	}
	return v
}
