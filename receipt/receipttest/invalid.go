package receipttest

import (
	"strings"
	"time"

	"github.com/computemarket/computemarket/receipt"
)

// InvalidReceipt is a receipt that must be rejected, and the error for it.
type InvalidReceipt struct {
	Name    string
	Receipt receipt.Receipt
	Err     error
}

// Invalid returns a receipt for each rule of validation that it breaks.
func Invalid() []InvalidReceipt {
	long := strings.Repeat("x", receipt.MaxIDBytes+1)
	version := numbered(1)
	version.Version = 2
	version.Key = receipt.MakeKey(version.JobID, version.Buyer, version.Provider, version.QuotePrice, 2)
	key := numbered(1)
	key.Key[31] ^= 1
	return []InvalidReceipt{
		{"empty job", receipt.New("", "b", "p", 1, issued), receipt.ErrEmptyID},
		{"empty buyer", receipt.New("j", "", "p", 1, issued), receipt.ErrEmptyID},
		{"empty provider", receipt.New("j", "b", "", 1, issued), receipt.ErrEmptyID},
		{"long job", receipt.New(long, "b", "p", 1, issued), receipt.ErrLongID},
		{"long buyer", receipt.New("j", long, "p", 1, issued), receipt.ErrLongID},
		{"long provider", receipt.New("j", "b", long, 1, issued), receipt.ErrLongID},
		{"job not UTF-8", receipt.New("\xff", "b", "p", 1, issued), receipt.ErrUTF8},
		{"buyer not UTF-8", receipt.New("j", "b\xc0", "p", 1, issued), receipt.ErrUTF8},
		{"provider not UTF-8", receipt.New("j", "b", "\xed\xa0\x80", 1, issued), receipt.ErrUTF8},
		{"self-dealing", receipt.New("j", "b", "b", 1, issued), receipt.ErrSelfDeal},
		{"unknown version", version, receipt.ErrVersion},
		{"wrong key", key, receipt.ErrKey},
		{"issued in year 10000", receipt.New("j", "b", "p", 1, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)), receipt.ErrIssuedAt},
		{"zero receipt", receipt.Receipt{}, receipt.ErrVersion},
	}
}
