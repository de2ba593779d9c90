package courier_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/couriertest"
)

// Three carriers hand one bundle to each other. Every order is tried in which the
// steps of their flushes and of the peers' answers can follow each other: each
// call of a store, each removal of a bundle, each answer, which may also be lost,
// and a crash of each carrier at each moment. At every moment one of them holds
// the receipt, pending, and its bundle; and whoever is rewarded has handed it to
// somebody who is there.
func TestCarriersThatMeet(t *testing.T) {
	ring, pair := [3]int{1, 2, 0}, [3]int{1, 0, 0}
	all := []meeting{
		{next: ring, held: [3]bool{true, false, false}},
		{next: ring, held: [3]bool{true, true, false}},
		{next: ring, held: [3]bool{true, true, true}},
		{next: pair, held: [3]bool{true, false, false}},
		{next: pair, held: [3]bool{true, true, false}},
		{next: pair, held: [3]bool{true, false, true}},
		{next: pair, held: [3]bool{true, true, true}},
	}
	states := 0
	try := func(m meeting, flushes, faults int) {
		m.flushes, m.faults = flushes, faults
		for _, m.asked = range []bool{true, false} {
			t.Run(fmt.Sprintf("%+v", m), func(t *testing.T) { states += explore(t, m) })
		}
	}
	for i, m := range all {
		try(m, 1, 0)
		if i == 3 || i == 4 || *sweep {
			try(m, 1, 1)
		}
		if *sweep {
			try(m, 2, 0)
		}
	}
	t.Logf("%d states", states)
}

// meeting is what is explored: to whom each carrier flushes, how often, who holds
// the bundle at first, whether a peer is asked before it is sent, and how many
// answers are lost or carriers crash.
type meeting struct {
	next            [3]int
	held            [3]bool
	asked           bool
	flushes, faults int
}

// explore tries every order and returns how many states it has met.
func explore(t *testing.T, m meeting) int {
	seen := map[string]bool{}
	for paths := [][]string{nil}; len(paths) > 0 && !t.Failed(); {
		path := paths[len(paths)-1]
		paths = paths[:len(paths)-1]
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, m)
			defer w.end()
			for n := 0; ; n++ {
				synctest.Wait()
				options := w.options()
				if n >= len(path) {
					if key := w.key(); seen[key] {
						return
					} else {
						seen[key] = true
					}
					if err := w.check(); err != nil {
						t.Fatalf("%v\nafter\n%s", err, strings.Join(path, "\n"))
					}
					if len(options) == 0 {
						return
					}
					for _, other := range options[1:] {
						paths = append(paths, append(slices.Clone(path), other))
					}
					path = append(slices.Clone(path), options[0])
				}
				if !slices.Contains(options, path[n]) {
					t.Fatalf("the same steps led elsewhere: %q is none of %q", path[n], options)
				}
				w.take(path[n])
			}
		})
	}
	return len(seen)
}

const bundleOfAll = "bundle"

// world is three carriers whose every step waits until it is told to happen.
type world struct {
	meeting
	receipt  courier.Receipt
	carriers [3]*carrier
	wg       sync.WaitGroup

	mu      sync.Mutex
	waiting map[string]*step // by actor
	history map[string]string
	ended   bool
	wrong   error
}

// carrier is one life of a carrier: after a crash there is another one on the
// same store.
type carrier struct {
	w       *world
	n, life int
	dead    bool // guarded by w.mu
	store   *couriertest.Model
	bundles *couriertest.BundlesModel
	*courier.Courier
}

// step is what an actor is about to do.
type step struct {
	of     *carrier
	what   string
	ready  bool
	happen chan bool // whether it happens
}

type actor struct{}

func newWorld(t *testing.T, m meeting) *world {
	w := &world{meeting: m, waiting: map[string]*step{}, history: map[string]string{}}
	w.receipt = receiptFor(bundleOfAll)
	for i := range w.carriers {
		c := &carrier{w: w, n: i, store: new(couriertest.Model), bundles: new(couriertest.BundlesModel)}
		w.carriers[i] = c
		if m.held[i] {
			b, err := c.bundles.Create(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(b, bundleOfAll)
			if err := b.Commit(w.receipt.Bundle); err != nil {
				t.Fatal(err)
			}
			if _, err := c.store.Append(t.Context(), w.receipt); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range w.carriers {
		c.start()
	}
	return w
}

// start begins a life, whose flushes follow each other.
func (c *carrier) start() {
	var err error
	c.Courier, err = courier.New(steppedStore{c.store, c}, &courier.Options{
		Bundles: steppedBundles{c.bundles, c}, MaxAttempts: 1, Concurrency: 1,
		Rewarder: creditor{c}, Account: "carrier", Amount: func(courier.Receipt) uint64 { return 1 },
	})
	if err != nil {
		panic(err)
	}
	c.w.wg.Go(func() {
		for k := range c.w.flushes {
			name := fmt.Sprintf("%c%d flush %d", 'A'+c.n, c.life, k)
			ctx := context.WithValue(context.Background(), actor{}, name)
			if c.step(ctx, "begin") == nil {
				c.Flush(ctx, link{c, c.w.next[c.n], name})
			}
		}
	})
}

var errCrashed = errors.New("crashed")

// step waits until what ctx's actor is about to do is to happen. The error says
// that it never will.
func (c *carrier) step(ctx context.Context, what string) error {
	return c.stepWhen(ctx, &step{of: c, what: what, ready: true})
}

func (c *carrier) stepWhen(ctx context.Context, s *step) error {
	s.happen = make(chan bool, 1)
	name := ctx.Value(actor{}).(string)
	w := c.w
	w.mu.Lock()
	dead := w.ended || c.dead
	if !dead {
		w.waiting[name] = s
	}
	w.mu.Unlock()
	if dead || !<-s.happen {
		return errCrashed
	}
	return nil
}

// saw notes what an actor has learned: with the rest of a state, that decides all
// that it will do.
func (c *carrier) saw(ctx context.Context, what ...any) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.history[ctx.Value(actor{}).(string)] += fmt.Sprintln(what...)
}

// options are the names of all that can happen next.
func (w *world) options() (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, s := range w.waiting {
		if s.ready {
			all = append(all, name+": "+s.what)
		}
		if s.what == "answer" && w.faults > 0 {
			all = append(all, name+": lost")
		}
	}
	for _, c := range w.carriers {
		if w.faults > 0 {
			all = append(all, fmt.Sprintf("%c%d crashes", 'A'+c.n, c.life))
		}
	}
	sort.Strings(all)
	return all
}

// take lets an option happen.
func (w *world) take(option string) {
	name, what, _ := strings.Cut(option, ": ")
	if what == "" {
		w.crash(int(option[0] - 'A'))
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.waiting[name]
	delete(w.waiting, name)
	if what == "lost" {
		w.faults--
	}
	s.happen <- what != "lost"
}

// crash ends one life of a carrier and begins the next: of all that it was at,
// only what is in the store is left.
func (w *world) crash(n int) {
	w.mu.Lock()
	w.faults--
	old := w.carriers[n]
	old.dead = true
	for name, s := range w.waiting {
		if s.of == old {
			delete(w.waiting, name)
			s.happen <- false
		}
	}
	c := &carrier{w: w, n: n, life: old.life + 1, store: old.store, bundles: old.bundles}
	w.carriers[n] = c
	w.mu.Unlock()
	c.start()
}

// end lets nothing happen any more.
func (w *world) end() {
	w.mu.Lock()
	w.ended = true
	for name, s := range w.waiting {
		delete(w.waiting, name)
		s.happen <- false
	}
	w.mu.Unlock()
	w.wg.Wait()
}

// key is the same for states from which the same can follow.
func (w *world) key() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for name, s := range w.waiting {
		all = append(all, fmt.Sprintf("%s: %s %v\n%s", name, s.what, s.ready, w.history[name]))
	}
	sort.Strings(all)
	for _, c := range w.carriers {
		r, _ := c.store.Get(context.Background(), w.receipt.ID)
		all = append(all, fmt.Sprintln(c.life, r.State, r.Seq, c.hasBundle(), c.Claims()))
	}
	return fmt.Sprint(w.faults, "\n", strings.Join(all, "\n"))
}

func (c *carrier) hasBundle() bool {
	_, err := c.bundles.Open(context.Background(), c.w.receipt.Bundle)
	return err == nil
}

// holds reports whether a carrier that starts now would have the receipt to
// carry on.
func (c *carrier) holds() bool {
	r, err := c.store.Get(context.Background(), c.w.receipt.ID)
	return err == nil && r.State == courier.Pending && c.hasBundle()
}

func (w *world) check() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wrong != nil {
		return w.wrong
	}
	for _, c := range w.carriers {
		if c.holds() {
			return nil
		}
	}
	return errors.New("nobody holds the bundle any more")
}

type steppedStore struct {
	*couriertest.Model
	c *carrier
}

func (s steppedStore) Get(ctx context.Context, id courier.ID) (courier.Receipt, error) {
	if err := s.c.step(ctx, "Get"); err != nil {
		return courier.Receipt{}, err
	}
	r, err := s.Model.Get(ctx, id)
	s.c.saw(ctx, "Get", r.State, r.Seq)
	return r, err
}

func (s steppedStore) Append(ctx context.Context, r courier.Receipt) (courier.Receipt, error) {
	if err := s.c.step(ctx, "Append"); err != nil {
		return courier.Receipt{}, err
	}
	r, err := s.Model.Append(ctx, r)
	s.c.saw(ctx, "Append", r.State, r.Seq)
	return r, err
}

func (s steppedStore) Move(ctx context.Context, moves []courier.Move) (int, error) {
	if err := s.c.step(ctx, "Move to "+moves[0].To.String()); err != nil {
		return 0, err
	}
	n, err := s.Model.Move(ctx, moves)
	s.c.saw(ctx, "Move", n)
	return n, err
}

type steppedBundles struct {
	*couriertest.BundlesModel
	c *carrier
}

func (b steppedBundles) Remove(ctx context.Context, h courier.Hash) error {
	if err := b.c.step(ctx, "Remove"); err != nil {
		return err
	}
	return b.BundlesModel.Remove(ctx, h)
}

// creditor looks whether the carrier has earned its reward.
type creditor struct{ c *carrier }

func (r creditor) Credit(_ context.Context, credits []courier.Credit) (int, error) {
	w := r.c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, other := range w.carriers {
		if other.n != r.c.n && other.holds() {
			return len(credits), nil
		}
	}
	w.wrong = fmt.Errorf("%c is rewarded, and nobody else holds the bundle", 'A'+r.c.n)
	return len(credits), nil
}

// link is the way to a peer. What has arrived is the peer's to finish, whether
// the sender waits for the answer or not.
type link struct {
	from *carrier
	to   int
	name string
}

func (l link) Forward(ctx context.Context, r courier.Receipt, bundle io.Reader) error {
	content, err := io.ReadAll(bundle)
	if err != nil {
		return err
	}
	w := l.from.w
	if err := l.from.step(ctx, "send"); err != nil {
		return err
	}
	w.mu.Lock()
	peer := w.carriers[l.to]
	w.mu.Unlock()
	answer := &step{of: l.from, what: "answer"}
	var verdict error
	w.wg.Go(func() {
		ctx := context.WithValue(context.Background(), actor{}, l.name+", peer")
		err := serveStepped(ctx, peer, r, content)
		w.mu.Lock()
		defer w.mu.Unlock()
		verdict, answer.ready = err, true
	})
	if err := l.from.stepWhen(ctx, answer); err != nil {
		return err
	}
	l.from.saw(ctx, verdict)
	return verdict
}

// serveStepped is what the handler does: it asks whether the receipt is known,
// and has it accepted if not. Accept keeps the rules alone, too.
func serveStepped(ctx context.Context, peer *carrier, r courier.Receipt, content []byte) error {
	err := courier.ErrNotFound
	if peer.w.asked {
		_, err = peer.Known(ctx, r.ID)
	}
	if errors.Is(err, courier.ErrNotFound) {
		err = peer.Accept(ctx, r, bytes.NewReader(content))
	}
	return err
}
