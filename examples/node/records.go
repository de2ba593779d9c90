package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/internal/durable"
	"github.com/computemarket/computemarket/settlement/match"
	"github.com/computemarket/computemarket/workload"
)

// The book is memory only, and whoever sends it orders keeps them. The node does
// so here, one JSON file each, written once before the order reaches the book and
// again if it is cancelled. How far an order was filled is in the receipt log.

// A job is a buyer's: each of its slices is a bid for one unit, so that each has
// a match, a proof and a receipt of its own.
type job struct {
	Seq       uint64         `json:"seq"` // place among all orders
	ID        string         `json:"id"`
	Buyer     string         `json:"buyer"`
	Lane      admission.Lane `json:"lane"`
	Kind      workload.Kind  `json:"kind"`
	Price     uint64         `json:"price"` // the most that is paid for a slice
	Expires   time.Time      `json:"expires,omitzero"`
	Cancelled bool           `json:"cancelled,omitempty"`
	Slices    []slice        `json:"slices"`
}

type slice struct {
	Content   workload.Hash `json:"content"` // under which the content is kept
	Size      int64         `json:"size"`
	Reference workload.Hash `json:"reference"` // the proof that the buyer expects
}

// An offer is a provider's: an ask for so many slices.
type offer struct {
	Seq       uint64         `json:"seq"`
	ID        string         `json:"id"`
	Provider  string         `json:"provider"`
	Lane      admission.Lane `json:"lane"`
	Units     uint64         `json:"units"` // slices
	Price     uint64         `json:"price"` // the least that is taken for a slice
	Expires   time.Time      `json:"expires,omitzero"`
	Cancelled bool           `json:"cancelled,omitempty"`
}

// bids are the orders of a job.
func (j *job) bids() []match.Order {
	orders := make([]match.Order, len(j.Slices))
	for i := range j.Slices {
		orders[i] = match.Order{
			ID: bidID(j.ID, i), Account: j.Buyer, Lane: j.Lane, Side: match.Bid,
			Units: 1, Price: j.Price, Expires: j.Expires,
		}
	}
	return orders
}

func (o *offer) ask() match.Order {
	return match.Order{
		ID: o.ID, Account: o.Provider, Lane: o.Lane, Side: match.Ask,
		Units: o.Units, Price: o.Price, Expires: o.Expires,
	}
}

func bidID(job string, slice int) string { return fmt.Sprintf("%s/%d", job, slice) }

// An id names a file, too.
var validID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// records is a folder with a file for each record.
type records[T any] struct{ dir string }

func openRecords[T any](dir string) (records[T], error) {
	return records[T]{dir}, durable.MkdirAll(durable.OS{}, dir, 0o700)
}

func (r records[T]) put(id string, record *T) error {
	text, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(r.dir, id+".json"), append(text, '\n'))
}

func (r records[T]) remove(id string) error { return os.Remove(filepath.Join(r.dir, id+".json")) }

// all returns the records, in no order that matters.
func (r records[T]) all() ([]*T, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, err
	}
	var all []*T
	for _, e := range entries {
		path := filepath.Join(r.dir, e.Name())
		if strings.HasPrefix(e.Name(), durable.TempPrefix) { // a crash left it
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		record := new(T)
		if err := json.Unmarshal(text, record); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, record)
	}
	return all, nil
}
