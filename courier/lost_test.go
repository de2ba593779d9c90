package courier_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/couriertest"
)

// A relay that has lost its copy takes a good one from whoever offers it, over
// HTTP as well, and carries it on: whatever it knows of the receipt, it does not
// call it known.
func TestRelayThatLostItsCopy(t *testing.T) {
	const content = "the bundle"
	broken := errors.New("no link")
	// flush is one of the relay's, which finds out what it has lost.
	flush := func(t *testing.T, relay *courier.Courier, wantDead bool) {
		t.Helper()
		_, err := relay.Flush(t.Context(), forwarder(func(_ context.Context, _ courier.Receipt, b io.Reader) error {
			if _, err := io.Copy(io.Discard, b); err != nil {
				return err
			}
			return broken
		}))
		n, cerr := relay.Count(t.Context())
		if err != nil || cerr != nil || (n.Dead == 1) != wantDead {
			t.Fatalf("the relay's flush: %v; %+v, %v", err, n, cerr)
		}
	}
	for name, lose := range map[string]func(t *testing.T, relay *courier.Courier, kept *couriertest.BundlesModel, h courier.Hash){
		"removed": func(t *testing.T, _ *courier.Courier, kept *couriertest.BundlesModel, h courier.Hash) {
			if err := kept.Remove(t.Context(), h); err != nil {
				t.Fatal(err)
			}
		},
		"damaged": func(t *testing.T, _ *courier.Courier, kept *couriertest.BundlesModel, h courier.Hash) {
			if err := kept.Damage(h); err != nil {
				t.Fatal(err)
			}
		},
		"removed, and dead for it": func(t *testing.T, relay *courier.Courier, kept *couriertest.BundlesModel, h courier.Hash) {
			if err := kept.Remove(t.Context(), h); err != nil {
				t.Fatal(err)
			}
			flush(t, relay, true)
		},
		"damaged, and dead for it": func(t *testing.T, relay *courier.Courier, kept *couriertest.BundlesModel, h courier.Hash) {
			if err := kept.Damage(h); err != nil {
				t.Fatal(err)
			}
			flush(t, relay, true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			kept := new(couriertest.BundlesModel)
			relay := newCourier(t, new(couriertest.Model), &courier.Options{Bundles: kept, MaxAttempts: 1})
			peer, _ := serve(t, relay, nil)
			// Two senders have the same bundle under the same ID: the first has
			// handed it over when the copy is lost.
			id := courier.ID{1}
			senders := make([]*courier.Courier, 2)
			for i := range senders {
				senders[i] = newCourier(t, new(couriertest.Model), &courier.Options{Bundles: new(couriertest.BundlesModel)})
				if _, err := senders[i].SendAs(ctx, id, strings.NewReader(content), "sender"); err != nil {
					t.Fatal(err)
				}
			}
			report(t, senders[0], peer, courier.Report{Forwarded: 1})
			r, err := relay.Get(ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			lose(t, relay, kept, r.Bundle)
			if _, err := relay.Known(ctx, id); !errors.Is(err, courier.ErrNotFound) {
				t.Errorf("Known of what is lost: %v, want ErrNotFound", err)
			}
			report(t, senders[1], peer, courier.Report{Forwarded: 1})

			if n, err := relay.Count(ctx); err != nil || n.Pending != 1 || n.Dead != 0 {
				t.Errorf("then the relay has %+v, %v, want one pending", n, err)
			}
			arrived := ""
			report(t, relay, forwarder(func(_ context.Context, _ courier.Receipt, b io.Reader) error {
				content, err := io.ReadAll(b)
				arrived = string(content)
				return err
			}), courier.Report{Forwarded: 1})
			if arrived != content {
				t.Errorf("%q went on, want %q", arrived, content)
			}
		})
	}
}
