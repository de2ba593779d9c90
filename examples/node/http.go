package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/creachadair/jrpc2"
	"github.com/creachadair/jrpc2/jhttp"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/computemarket/computemarket/courier"
)

// strangersBody is the largest body of a call without the token, in bytes.
const strangersBody = 16 << 10

// handler returns all that the node serves, and what closes it.
func (n *node) handler(stopping context.Context) (http.Handler, func()) {
	// Callers without the token reach a bridge of their own, in which whatever
	// changes state answers that it needs one.
	options := &jhttp.BridgeOptions{Server: &jrpc2.ServerOptions{
		DisableBuiltin: true,
		Concurrency:    64,
	}}
	owner := jhttp.NewBridge(n.methods(stopping), options)
	stranger := jhttp.NewBridge(guarded(n.methods(stopping)), options)

	mux := http.NewServeMux()
	mux.HandleFunc("/rpc", func(w http.ResponseWriter, r *http.Request) {
		bridge, limit := owner, n.cfg.RPCMaxBody
		if !n.token.shownBy(r) {
			if r.Header.Get("Authorization") != "" {
				w.Header().Set("WWW-Authenticate", "Bearer")
				refuse(w, http.StatusUnauthorized, codeToken, "wrong token")
				return
			}
			bridge, limit = stranger, strangersBody
		}
		if n.readBody(w, r, limit) {
			bridge.ServeHTTP(w, r)
		}
	})
	mux.Handle("/courier/", n.peers())
	mux.Handle("GET /metrics", brief(promhttp.HandlerFor(n.registry, promhttp.HandlerOpts{})))
	mux.Handle("GET /healthz", brief(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := n.health(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		if !n.engine.Leads() {
			io.WriteString(w, "standby\n")
			return
		}
		io.WriteString(w, "ok\n")
	})))
	mux.Handle("GET /{$}", brief(http.HandlerFunc(n.servePage)))
	// A page of another site may not call the node through its visitor.
	return http.NewCrossOriginProtection().Handler(mux), func() {
		owner.Close()
		stranger.Close()
	}
}

// brief ends answers to those who do not read them.
func brief(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(30 * time.Second))
		h.ServeHTTP(w, r)
	})
}

// readBody reads the body of a call within its limits of size and time. It
// answers what is beyond them, or no JSON, itself.
func (n *node) readBody(w http.ResponseWriter, r *http.Request, limit int64) bool {
	conn := http.NewResponseController(w)
	conn.SetReadDeadline(time.Now().Add(seconds(n.cfg.RPCTimeLimit)))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	conn.SetReadDeadline(time.Time{})
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		refuse(w, http.StatusRequestEntityTooLarge, codeLimit, "the body is too large")
		return false
	}
	if err != nil {
		refuse(w, http.StatusRequestTimeout, codeTime, "the body did not come")
		return false
	}
	if calls, err := jrpc2.ParseRequests(body); err != nil {
		refuse(w, http.StatusBadRequest, jrpc2.ParseError, "the body is no JSON")
		return false
	} else if len(calls) == 0 || len(calls) > maxBatch {
		refuse(w, http.StatusBadRequest, jrpc2.InvalidRequest, "a batch has 1 to 100 calls")
		return false
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return true
}

const maxBatch = 100

// refuse answers a request that does not reach a method.
func refuse(w http.ResponseWriter, status int, code jrpc2.Code, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{
		"jsonrpc": "2.0", "id": nil, "error": jrpc2.Errorf(code, "%s", text),
	})
}

// peers is the courier's receiving end.
func (n *node) peers() http.Handler {
	receive, err := courier.NewHandler(n.courier, &courier.HandlerOptions{
		MaxBundle: n.cfg.CourierMaxBundle,
		Logger:    n.log,
	})
	if err != nil {
		panic(err) // the limit was checked with the configuration
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !n.courierToken.shownBy(r) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "wrong courier token", http.StatusUnauthorized)
			return
		}
		receive.ServeHTTP(w, r)
	})
}
