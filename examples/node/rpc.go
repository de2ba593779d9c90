package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/creachadair/jrpc2"
	"github.com/creachadair/jrpc2/handler"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/priceboard"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/match"
	"github.com/computemarket/computemarket/workload"
)

// readOnly names the methods that change nothing and need no token.
var readOnly = map[string]bool{
	"settlement_status":   true,
	"settlement_failures": true,
	"credits_balance":     true,
	"job_status":          true,
	"price_bands":         true,
	"admission_status":    true,
	"courier_status":      true,
}

// methods are those of JSON-RPC at /rpc, and of the command line on the data dir
// of a node that does not run. stopping ends when the node is to stop.
func (n *node) methods(stopping context.Context) handler.Map {
	limit := seconds(n.cfg.RPCTimeLimit)
	long := seconds(n.cfg.CourierFlushLimit)
	methods := handler.Map{
		"settlement_status":     method(limit, n.settlementStatus),
		"settlement_arm":        method(limit, n.settlementArm),
		"settlement_cancel_arm": method(limit, n.settlementCancelArm),
		"settlement_dry_run":    method(limit, n.settlementDryRun),
		"settlement_height":     method(limit, n.settlementHeight),
		"settlement_retry":      method(limit, n.settlementRetry),
		"settlement_failures":   method(limit, n.settlementFailures),
		"credits_issue":         method(limit, n.creditsIssue),
		"credits_transfer":      method(limit, n.creditsTransfer),
		"credits_balance":       method(limit, n.creditsBalance),
		"offer_post":            method(limit, n.offerPost),
		"job_submit":            method(limit, n.jobSubmit),
		"job_status":            method(limit, n.jobStatus),
		"order_cancel":          method(limit, n.orderCancel),
		"price_bands":           method(limit, n.priceBands),
		"admission_status":      method(limit, n.admissionStatus),
		"courier_send":          method(limit, n.courierSend),
		"courier_status":        method(limit, n.courierStatus),
		"courier_flush": method(long, func(ctx context.Context, p flushParams) (flushResult, error) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(stopping, cancel)()
			return n.courierFlush(ctx, p)
		}),
	}
	for name, call := range methods {
		if name == "offer_post" || name == "job_submit" {
			methods[name] = func(ctx context.Context, r *jrpc2.Request) (any, error) {
				if !n.engine.Leads() {
					return nil, coded(settlement.ErrStandby)
				}
				return call(ctx, r)
			}
		}
	}
	return methods
}

// none are the parameters of a method without any.
type none struct{}

// method is a handler with a limit of time, strict parameters, and errors that
// have a code.
func method[P, R any](limit time.Duration, f func(context.Context, P) (R, error)) jrpc2.Handler {
	info, err := handler.Check(func(ctx context.Context, p P) (R, error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		r, err := f(ctx, p)
		return r, coded(err)
	})
	if err != nil {
		panic(err) // P is a struct: this cannot be
	}
	return info.SetStrict(true).AllowArray(false).Wrap()
}

// guarded is what a caller without the token gets.
func guarded(methods handler.Map) handler.Map {
	g := maps.Clone(methods)
	for name := range g {
		if !readOnly[name] {
			g[name] = func(context.Context, *jrpc2.Request) (any, error) {
				return nil, jrpc2.Errorf(codeToken, "%s needs the token", name)
			}
		}
	}
	return g
}

// Codes of errors. Those below -32000 are JSON-RPC's own.
const (
	codeToken     jrpc2.Code = 1  // the call needs the token
	codeInvalid   jrpc2.Code = 2  // the parameters make no sense
	codeNotFound  jrpc2.Code = 3  // nothing has this id or name
	codeConflict  jrpc2.Code = 4  // the id stands for something else
	codeMode      jrpc2.Code = 5  // not in this mode of settlement
	codeFunds     jrpc2.Code = 6  // insufficient funds, or an overflow
	codeAdmission jrpc2.Code = 7  // not admitted; data has code and retry_after_ns
	codeLimit     jrpc2.Code = 8  // over a limit of size or number
	codePeer      jrpc2.Code = 9  // the peer of a flush takes nothing; data has the report
	codeBusy      jrpc2.Code = 10 // try again
	codeStopped   jrpc2.Code = 11 // the store has failed, is closed or another node's
	codeTime      jrpc2.Code = 12 // the call took too long
	codeOther     jrpc2.Code = 13
)

var codes = []struct {
	code jrpc2.Code
	errs []error
}{
	{codeLimit, []error{courier.ErrTooLarge, match.ErrFull, errLimit}},
	{codeConflict, []error{
		settlement.ErrConflict, courier.ErrConflict, receipt.ErrConflict, match.ErrRepeated, errRepeated,
		workload.ErrMismatch,
	}},
	{codeInvalid, []error{
		errOrder, errParams, errFile, receipt.ErrInvalid, receipt.ErrKeySyntax, settlement.ErrInvalid,
		settlement.ErrActivation, settlement.ErrIssuer, match.ErrID, match.ErrAccount, match.ErrSide,
		match.ErrUnits, match.ErrPrice, match.ErrExpired, admission.ErrLane, admission.ErrID,
		admission.ErrDemand, workload.ErrSlice, workload.ErrKind, workload.ErrHash, courier.ErrInvalid,
		courier.ErrMismatch, priceboard.ErrNoBands, errNoPeer,
	}},
	{codeNotFound, []error{errUnknown, match.ErrNotFound, settlement.ErrNotArchived, courier.ErrNotFound}},
	{codeMode, []error{settlement.ErrMode}},
	{codeFunds, []error{settlement.ErrInsufficient, settlement.ErrOverflow}},
	{codePeer, []error{courier.ErrPeerDown}},
	{codeBusy, []error{errFlushing, settlement.ErrStandby}},
	{codeStopped, []error{
		settlement.ErrPoisoned, settlement.ErrClosed, settlement.ErrCorrupt, settlement.ErrFenced, settlement.ErrUnknown,
		receipt.ErrPoisoned, receipt.ErrClosed,
		receipt.ErrCorrupt, courier.ErrPoisoned, courier.ErrClosed, courier.ErrCorrupt,
	}},
	{codeTime, []error{context.DeadlineExceeded, context.Canceled}},
}

var (
	errParams = errors.New("bad parameters")
	errLimit  = errors.New("over the limit")
)

// coded is an error as a caller sees it: a code to branch on and a sentence.
func coded(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*jrpc2.Error](err); ok {
		return e
	}
	if r, ok := errors.AsType[refusal](err); ok {
		return jrpc2.Errorf(codeAdmission, "%s", r.Error()).WithData(map[string]any{
			"code": r.Code, "retry_after_ns": r.RetryAfter,
		})
	}
	for _, c := range codes {
		for _, known := range c.errs {
			if errors.Is(err, known) {
				return jrpc2.Errorf(c.code, "%s", sentence(err))
			}
		}
	}
	return jrpc2.Errorf(codeOther, "%s", sentence(err))
}

// sentence drops the name of the package from an error's text.
func sentence(err error) string {
	text := err.Error()
	if name, rest, ok := strings.Cut(text, ": "); ok && packages[name] {
		return rest
	}
	return text
}

var packages = map[string]bool{
	"admission": true, "courier": true, "match": true, "priceboard": true, "receipt": true,
	"settlement": true, "workload": true,
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errParams, fmt.Sprintf(format, args...))
}
