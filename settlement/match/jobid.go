package match

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

const separator = '|' // between the parts of a job id; in no order id

// A Job is what a receipt's job id says: which two orders met, and which units
// of the bid the receipt pays for.
type Job struct {
	Bid, Ask string // order ids
	From     uint64 // units of the bid that earlier receipts pay for
	Units    uint64 // units that this receipt pays for
}

// String returns the job id, "bid|ask|from+units".
//
// It is a function of what was matched and of what was paid before, never of a
// clock or a counter in memory. Partial fills of one bid differ in From, so
// every one has a receipt key of its own, and an append that is repeated
// because its outcome was unknown repeats the key.
func (j Job) String() string {
	var buf [2*MaxID + 43]byte
	b := append(buf[:0], j.Bid...)
	b = append(b, separator)
	b = append(b, j.Ask...)
	b = append(b, separator)
	b = strconv.AppendUint(b, j.From, 10)
	b = append(b, '+')
	b = strconv.AppendUint(b, j.Units, 10)
	return string(b)
}

// ParseJob is the inverse of [Job.String]. It reports false for a job id that
// this package did not make.
func ParseJob(id string) (Job, bool) {
	bid, rest, ok1 := strings.Cut(id, string(separator))
	ask, rest, ok2 := strings.Cut(rest, string(separator))
	from, units, ok3 := strings.Cut(rest, "+")
	if !ok1 || !ok2 || !ok3 || !orderID(bid) || !orderID(ask) {
		return Job{}, false
	}
	f, err1 := strconv.ParseUint(from, 10, 64)
	u, err2 := strconv.ParseUint(units, 10, 64)
	j := Job{Bid: bid, Ask: ask, From: f, Units: u}
	// Only the canonical spelling: "+1" and "01" are numbers to ParseUint.
	if err1 != nil || err2 != nil || u == 0 || u > MaxUnits || f+u < f || j.String() != id {
		return Job{}, false
	}
	return j, true
}

// orderID reports whether a part of a job id can be the id of an order.
func orderID(s string) bool { return s != "" && len(s) <= MaxID && utf8.ValidString(s) }
