package receipt

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

type jsonReceipt struct {
	Version    uint16    `json:"version"`
	JobID      string    `json:"job_id"`
	Buyer      string    `json:"buyer"`
	Provider   string    `json:"provider"`
	QuotePrice jsonPrice `json:"quote_price"`
	IssuedAt   time.Time `json:"issued_at,omitzero"`
	Key        *Key      `json:"idempotency_key"`
	DryRun     bool      `json:"dry_run"`
}

// MarshalJSON implements [json.Marshaler]. The price is a string of decimal
// digits, since many readers of JSON lose digits of numbers beyond 2^53;
// issued_at is RFC 3339 in UTC.
func (r Receipt) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonReceipt{
		Version: r.Version, JobID: r.JobID, Buyer: r.Buyer, Provider: r.Provider,
		QuotePrice: jsonPrice(r.QuotePrice), IssuedAt: r.IssuedAt.UTC(), Key: &r.Key, DryRun: r.DryRun,
	})
}

// UnmarshalJSON implements [json.Unmarshaler]. The price may be a string or a
// number, and idempotency_key may be left out; then it is computed. Unknown
// fields are ignored. It leaves r alone on an error, which wraps
// [ErrJSONSyntax]; it does not validate.
func (r *Receipt) UnmarshalJSON(data []byte) error {
	var j jsonReceipt
	if err := json.Unmarshal(data, &j); err != nil {
		return fmt.Errorf("%w: %w", ErrJSONSyntax, err)
	}
	got := Receipt{
		Version: j.Version, JobID: j.JobID, Buyer: j.Buyer, Provider: j.Provider,
		QuotePrice: uint64(j.QuotePrice), IssuedAt: j.IssuedAt, DryRun: j.DryRun,
	}
	if j.Key != nil {
		got.Key = *j.Key
	} else {
		got.Key = MakeKey(got.JobID, got.Buyer, got.Provider, got.QuotePrice, got.Version)
	}
	*r = got
	return nil
}

type jsonPrice uint64

func (p jsonPrice) MarshalJSON() ([]byte, error) {
	return strconv.AppendQuote(nil, strconv.FormatUint(uint64(p), 10)), nil
}

func (p *jsonPrice) UnmarshalJSON(data []byte) error {
	text := string(data)
	if s, ok := strings.CutPrefix(text, `"`); ok {
		text = strings.TrimSuffix(s, `"`)
	}
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return fmt.Errorf("quote_price %s is not a whole number below 2^64", data)
	}
	*p = jsonPrice(v)
	return nil
}
