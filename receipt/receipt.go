package receipt

import (
	"fmt"
	"time"
	"unicode/utf8"
)

const (
	// Version is the version of the receipts that [New] makes, the only one
	// that this release knows.
	Version = 1
	// MaxIDBytes bounds a job id and a party's id, in bytes of UTF-8.
	MaxIDBytes = 256

	firstSecond = -62135596800 // 0001-01-01T00:00:00Z, the zero time
	lastSecond  = 253402300799 // 9999-12-31T23:59:59Z, the last that RFC 3339 can write
)

// Receipt says that a buyer owes a provider the price of a job. Its key, made
// from all fields but the last two, lets it count once.
type Receipt struct {
	Version    uint16
	JobID      string
	Buyer      string
	Provider   string
	QuotePrice uint64 // credits
	Key        Key
	IssuedAt   time.Time // information only; order comes from sequence numbers
	DryRun     bool      // recorded, but nothing is owed
}

// New returns a receipt of the current version with its key. Whether its ids are
// acceptable, [Receipt.Validate] tells; a [Store] asks it.
func New(jobID, buyer, provider string, quotePrice uint64, issuedAt time.Time) Receipt {
	return Receipt{
		Version:    Version,
		JobID:      jobID,
		Buyer:      buyer,
		Provider:   provider,
		QuotePrice: quotePrice,
		Key:        MakeKey(jobID, buyer, provider, quotePrice, Version),
		IssuedAt:   issuedAt.Round(0).UTC(), // as it comes back from a store
	}
}

// Validate returns an error that wraps [ErrInvalid] unless r may be recorded.
func (r *Receipt) Validate() error {
	if r.Version != Version {
		return fmt.Errorf("%w %d", ErrVersion, r.Version)
	}
	for _, id := range [...]struct{ field, value string }{
		{"job_id", r.JobID}, {"buyer", r.Buyer}, {"provider", r.Provider},
	} {
		if err := ValidateID(id.value); err != nil {
			return fmt.Errorf("%w (%s)", err, id.field)
		}
	}
	if r.Buyer == r.Provider {
		return ErrSelfDeal
	}
	if s := r.IssuedAt.Unix(); s < firstSecond || s > lastSecond {
		return ErrIssuedAt
	}
	if r.Key != MakeKey(r.JobID, r.Buyer, r.Provider, r.QuotePrice, r.Version) {
		return ErrKey
	}
	return nil
}

// ValidateID returns [ErrEmptyID], [ErrLongID] or [ErrUTF8] unless id may name
// a job, a buyer or a provider.
func ValidateID(id string) error {
	switch {
	case id == "":
		return ErrEmptyID
	case len(id) > MaxIDBytes:
		return ErrLongID
	case !utf8.ValidString(id):
		return ErrUTF8
	}
	return nil
}

// SameContent reports whether r and other say the same: all but IssuedAt and
// DryRun, which a retry may set anew.
func (r *Receipt) SameContent(other *Receipt) bool {
	return r.Key == other.Key && r.Version == other.Version && r.JobID == other.JobID &&
		r.Buyer == other.Buyer && r.Provider == other.Provider && r.QuotePrice == other.QuotePrice
}
