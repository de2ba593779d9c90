package courier

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// A receipt travels as PUT {base}/{ID} with these headers, the bundle as the
// body. A large bundle is offered first: the same request without a body, which
// is answered by "wanted", or by what the bundle would be answered by. The answer
// has a verdict, so that a captive portal or a proxy, which knows nothing of
// receipts, can neither acknowledge nor refuse one.
const (
	headerBundle  = "Courier-Bundle"  // hash, hex
	headerSize    = "Courier-Size"    // bytes, decimal
	headerSender  = "Courier-Sender"  // query-escaped, as it may hold anything
	headerSentAt  = "Courier-Sent-At" // RFC 3339
	headerCarries = "Courier-Carries" // what follows: see below
	headerVerdict = "Courier-Verdict"

	carriesBundle  = "bundle"
	carriesReceipt = "receipt" // alone, no bundle is kept for it
	carriesOffer   = "offer"   // of a bundle that comes if it is wanted

	verdictWanted   = "wanted" // what was offered
	verdictStored   = "stored"
	verdictKnown    = "known" // was stored before
	verdictRejected = "rejected"
)

func setHeaders(h http.Header, r Receipt, carries string) {
	h.Set(headerBundle, r.Bundle.String())
	h.Set(headerSize, strconv.FormatInt(r.Size, 10))
	h.Set(headerSender, url.QueryEscape(r.Sender))
	h.Set(headerSentAt, r.SentAt.UTC().Format(time.RFC3339Nano))
	h.Set(headerCarries, carries)
}

// readHeaders returns the receipt and what follows it. The error is ErrInvalid.
func readHeaders(id string, h http.Header) (r Receipt, carries string, err error) {
	if r.ID, err = ParseID(id); err != nil {
		return r, "", fmt.Errorf("ID: %w", err)
	}
	if r.Bundle, err = ParseHash(h.Get(headerBundle)); err != nil {
		return r, "", fmt.Errorf("%s: %w", headerBundle, err)
	}
	if r.Size, err = strconv.ParseInt(h.Get(headerSize), 10, 64); err != nil {
		return r, "", fmt.Errorf("%w: %s", ErrInvalid, headerSize)
	}
	if r.Sender, err = url.QueryUnescape(h.Get(headerSender)); err != nil {
		return r, "", fmt.Errorf("%w: %s", ErrInvalid, headerSender)
	}
	at, err := time.Parse(time.RFC3339Nano, h.Get(headerSentAt))
	if err != nil {
		return r, "", fmt.Errorf("%w: %s", ErrInvalid, headerSentAt)
	}
	r.SentAt = micros(at)
	switch carries = h.Get(headerCarries); carries {
	case carriesBundle, carriesReceipt, carriesOffer:
		return r, carries, r.Validate()
	}
	return r, "", fmt.Errorf("%w: %s", ErrInvalid, headerCarries)
}
