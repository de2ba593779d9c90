package courier

import (
	"context"
	"io"
	"sync"
	"time"
)

// desk is what the handler works on in its own time, whether its sender is still
// there or not: whoever comes with the same receipt meanwhile hears what becomes
// of it, and does not begin it again.
type desk struct {
	mu sync.Mutex
	on map[ID]*work
}

// work on one receipt.
type work struct {
	receipt Receipt
	done    chan struct{} // closed when there is an outcome:
	verdict string
	err     error
}

// join returns the work on r's ID, which is mine to do and to finish if there was
// none.
func (d *desk) join(r Receipt) (w *work, mine bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w := d.on[r.ID]; w != nil {
		return w, false
	}
	w = &work{receipt: r, done: make(chan struct{})}
	if d.on == nil {
		d.on = map[ID]*work{}
	}
	d.on[r.ID] = w
	return w, true
}

func (d *desk) finish(w *work, verdict string, err error) {
	w.verdict, w.err = verdict, err
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.on, w.receipt.ID)
	close(w.done)
}

// wait returns the outcome of somebody else's work, or gives up with later.
func (w *work) wait(ctx context.Context, timeout time.Duration) (verdict string, err error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-w.done:
		return w.verdict, w.err
	case <-ctx.Done():
		return "", later{ctx.Err()}
	case <-timer.C:
		return "", later{errInHand}
	}
}

// arrival reads a bundle, and takes it to the desk once it is there whole: from
// then on it does not depend on the sender.
type arrival struct {
	bundle *verifier
	desk   *desk

	mu    sync.Mutex // a receiver may read where it likes
	over  bool       // nobody is to read any more
	work  *work      // nil before, or if somebody is at it already
	asked bool
}

func (a *arrival) Read(p []byte) (int, error) {
	n, err := a.bundle.Read(p)
	if err != io.EOF {
		return n, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.over && !a.asked {
		a.asked = true
		if w, mine := a.desk.join(a.bundle.want); mine {
			a.work = w
		}
	}
	return n, err
}

// finish tells those who wait what became of it.
func (a *arrival) finish(verdict string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	if a.work != nil {
		a.desk.finish(a.work, verdict, err)
	}
}
