package workload

import "fmt"

// SliceProof claims the payout of one slice: what the work must give, what the
// provider's run gave, and the price of it.
type SliceProof struct {
	Reference Hash   `json:"reference"` // what the buyer, or a second run, expects
	Output    Hash   `json:"output"`    // what the provider's run returned
	Payout    uint64 `json:"payout"`    // credits owed once the proof holds
}

// Verify returns nil if the output is the reference, and [ErrProof] otherwise.
// An unset reference proves nothing and never verifies.
func (p SliceProof) Verify() error {
	if p.Reference.IsZero() {
		return fmt.Errorf("%w: no reference", ErrProof)
	}
	if p.Output != p.Reference {
		return fmt.Errorf("%w: got %v, want %v", ErrProof, p.Output, p.Reference)
	}
	return nil
}
