package admission

import (
	"errors"
	"fmt"
)

// ErrOptions reports options that contradict their documentation. Nothing was
// built; correct the named field.
var ErrOptions = errors.New("admission: bad options")

// ErrID reports a job id, buyer or provider that is empty or longer than
// [MaxID] bytes. The request stays wrong however often it is tried.
var ErrID = errors.New("admission: id is empty or too long")

// ErrDemand reports a demand that says nothing or too much: no shards, neither
// duration nor demand or both, a negative duration, or more than [MaxShards],
// [MaxDuration] or 64 bits of micro-shard-seconds.
var ErrDemand = errors.New("admission: bad demand")

// The reasons are made once, so that a refusal of bad input allocates nothing.
var (
	errLane     = fmt.Errorf("%w: the request declares none", ErrLane)
	errJobID    = fmt.Errorf("%w: job id", ErrID)
	errBuyer    = fmt.Errorf("%w: buyer", ErrID)
	errProvider = fmt.Errorf("%w: provider", ErrID)
	errShards   = fmt.Errorf("%w: no shards", ErrDemand)
	errNothing  = fmt.Errorf("%w: neither duration nor demand", ErrDemand)
	errBoth     = fmt.Errorf("%w: both duration and demand", ErrDemand)
	errNegative = fmt.Errorf("%w: negative duration", ErrDemand)
	errOverflow = fmt.Errorf("%w: more than a request can hold", ErrDemand)
)
