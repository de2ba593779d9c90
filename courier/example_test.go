package courier_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"strings"

	"lukechampine.com/blake3"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/courierpebble"
	"github.com/computemarket/computemarket/courier/couriertest"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementtest"
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

// ledgerRewards connects a courier to a settlement ledger: each credit is
// issued once, under an ID that is made from the receipt's.
type ledgerRewards struct{ settlement.Ledger }

func (l ledgerRewards) Credit(ctx context.Context, credits []courier.Credit) (int, error) {
	transfers := make([]settlement.Transfer, len(credits))
	for i, c := range credits {
		tag := "courier:" + c.ID.String()
		transfers[i] = settlement.Transfer{
			ID: blake3.Sum256([]byte(tag)), From: l.Issuer(), To: c.Account, Amount: c.Amount, Tag: tag,
		}
	}
	done, err := l.Post(ctx, settlement.Lease{}, transfers)
	if errors.Is(err, settlement.ErrInvalid) || errors.Is(err, settlement.ErrConflict) {
		err = fmt.Errorf("%w: %w", courier.ErrRejected, err)
	}
	return len(done), err
}

// The carrier earns one credit a byte.
func ExampleRewarder() {
	ctx := context.Background()
	ledger := new(settlementtest.Ledger) // or one of settlementpebble or settlementsql
	c, err := courier.New(new(couriertest.Model), &courier.Options{
		Rewarder: ledgerRewards{ledger},
		Account:  "node-1",
		Amount:   func(r courier.Receipt) uint64 { return uint64(r.Size) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, bundle := range []string{"one", "three"} {
		if _, err := c.Send(ctx, strings.NewReader(bundle), "provider-1"); err != nil {
			fmt.Println(err)
			return
		}
	}
	report, err := c.Flush(ctx, radio{})
	fmt.Println("forwarded:", report.Forwarded, err)
	earned, err := ledger.Balance(ctx, "node-1")
	fmt.Println("earned:", earned, err)
	// Output:
	// forwarded: 2 <nil>
	// earned: 8 <nil>
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
