package courier_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/courierpebble"
	"github.com/computemarket/computemarket/courier/couriertest"
)

// A node stores a bundle, and hands it to its peer when the link is back.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "courier")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	// The peer keeps what it is sent, to carry it on.
	peer, err := courier.New(new(couriertest.Model), &courier.Options{Bundles: courier.DirBundles(dir + "/peer")})
	if err != nil {
		fmt.Println(err)
		return
	}
	handler, err := courier.NewHandler(peer, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewServer(handler)
	defer server.Close()

	store, err := courierpebble.Open(dir+"/receipts", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	node, err := courier.New(store, &courier.Options{Bundles: courier.DirBundles(dir + "/bundles")})
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt, err := node.Send(ctx, strings.NewReader("results of job 7"), "provider-1")
	if err != nil {
		fmt.Println(err)
		return
	}

	link, err := courier.NewHTTPForwarder(server.URL, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer link.Close()
	report, err := node.Flush(ctx, link)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("forwarded:", report.Forwarded, "remaining:", report.Remaining)
	receipt, err = node.Get(ctx, receipt.ID)
	fmt.Println("acknowledged:", receipt.Acknowledged(), err)
	// Output:
	// forwarded: 1 remaining: 0
	// acknowledged: true <nil>
}

// book stands for a ledger that posts each transfer once per ID, in order.
type book struct {
	posted  map[string]uint64
	balance uint64
}

// carrierRewards connects a courier to it.
type carrierRewards struct{ *book }

func (c carrierRewards) Credit(_ context.Context, credits []courier.Credit) (int, error) {
	for _, credit := range credits {
		id := "courier:" + credit.ID.String()
		if _, ok := c.posted[id]; ok {
			continue // a repeated delivery
		}
		c.posted[id] = credit.Amount
		c.balance += credit.Amount
	}
	return len(credits), nil
}

// The carrier earns one credit a byte.
func ExampleRewarder() {
	ledger := &book{posted: map[string]uint64{}}
	c, err := courier.New(new(couriertest.Model), &courier.Options{
		Rewarder: carrierRewards{ledger},
		Account:  "node-1",
		Amount:   func(r courier.Receipt) uint64 { return uint64(r.Size) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	for _, bundle := range []string{"one", "three"} {
		if _, err := c.Send(ctx, strings.NewReader(bundle), "provider-1"); err != nil {
			fmt.Println(err)
			return
		}
	}
	report, err := c.Flush(ctx, radio{})
	fmt.Println(report.Forwarded, ledger.balance, err)
	// Output: 2 8 <nil>
}

// radio is a link of one's own.
type radio struct{}

func (radio) Forward(context.Context, courier.Receipt, io.Reader) error { return nil }

// A receipt that the peer refuses for good is kept, until somebody decides.
func ExampleCourier_Requeue() {
	ctx := context.Background()
	c, err := courier.New(new(couriertest.Model), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := c.Send(ctx, strings.NewReader("x"), "provider-1"); err != nil {
		fmt.Println(err)
		return
	}
	refuses := forwarder(func(context.Context, courier.Receipt, io.Reader) error {
		return fmt.Errorf("%w: unknown sender", courier.ErrRejected)
	})
	if _, err := c.Flush(ctx, refuses); err != nil {
		fmt.Println(err)
		return
	}
	for r, err := range c.List(ctx, courier.Dead) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(r.Cause, "-", r.Reason)
		n, err := c.Requeue(ctx, r.ID)
		fmt.Println("requeued:", n, err)
	}
	// Output:
	// rejected - courier: rejected: unknown sender
	// requeued: 1 <nil>
}

// A link that is down ends the flush at once; what is pending stays so.
func ExampleCourier_Flush() {
	ctx := context.Background()
	c, err := courier.New(new(couriertest.Model), &courier.Options{StopAfter: 3})
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range 100 {
		if _, err := c.Send(ctx, strings.NewReader(fmt.Sprint(i)), "provider-1"); err != nil {
			fmt.Println(err)
			return
		}
	}
	report, err := c.Flush(ctx, forwarder(func(context.Context, courier.Receipt, io.Reader) error {
		return errors.New("no route to host")
	}))
	fmt.Println(report.Remaining, errors.Is(err, courier.ErrPeerDown))
	// Output: 100 true
}
