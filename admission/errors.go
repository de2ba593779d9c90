package admission

import (
	"errors"
	"fmt"

	"github.com/computemarket/computemarket/internal/fault"
)

// ErrOptions reports options that contradict their documentation. Nothing was
// built; correct the named field.
var ErrOptions = fault.ErrOptions

// ErrID reports a job id, buyer or provider that is empty or longer than
// [MaxID] bytes. The request stays wrong however often it is tried.
var ErrID = errors.New("admission: id is empty or too long")

// ErrDemand reports a demand that says nothing or too much: no shards, neither
// duration nor demand or both, a negative duration, or more than [MaxShards],
// [MaxDuration] or 64 bits of micro-shard-seconds.
var ErrDemand = errors.New("admission: bad demand")

// ErrText reports a text that names no mode or no code.
var ErrText = errors.New("admission: unknown name")

// flaw is what is wrong with a request. It becomes an error only for who asks.
type flaw uint8

const (
	wellFormed flaw = iota
	noLane
	badJobID
	badBuyer
	badProvider
	noShards
	nothing
	both
	negative
	overflow
)

// The errors are made once, so that asking for them allocates nothing either.
var faults = [...]error{
	nil,
	fmt.Errorf("%w: the request declares none", ErrLane),
	fmt.Errorf("%w: job id", ErrID),
	fmt.Errorf("%w: buyer", ErrID),
	fmt.Errorf("%w: provider", ErrID),
	fmt.Errorf("%w: no shards", ErrDemand),
	fmt.Errorf("%w: neither duration nor demand", ErrDemand),
	fmt.Errorf("%w: both duration and demand", ErrDemand),
	fmt.Errorf("%w: negative duration", ErrDemand),
	fmt.Errorf("%w: more than a request can hold", ErrDemand),
}
