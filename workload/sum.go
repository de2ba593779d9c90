package workload

import (
	"context"
	"errors"
	"io"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// Sum returns the BLAKE3-256 of b. A large b is hashed on all cores.
func Sum(b []byte) Hash {
	if len(b) < parallelSize {
		w := workers.Get().(*worker)
		defer workers.Put(w)
		w.cold = true
		return rootHash(w.subtree(b, 0))
	}
	h, err := SumInput(context.Background(), Bytes(b))
	if err != nil {
		panic(err) // bytes cannot fail
	}
	return h
}

// SumInput returns the BLAKE3-256 of in. Bytes, files and anything that is read
// at offsets are hashed on all cores. A stream is read by one goroutine at a
// time, in constant memory, and hashed on all cores.
//
// Possible errors are [ErrSlice], ctx's, those of the reader, and [PanicError]
// if the reader panics.
func SumInput(ctx context.Context, in Input) (Hash, error) {
	if err := in.validate(); err != nil {
		return Hash{}, err
	}
	slots := semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0)))
	slots.TryAcquire(1) // this goroutine
	d, err := scan(ctx, &in, true, nil, slots)
	return d.hash, err
}

// parallelSize is the least length for which a second goroutine pays.
const parallelSize = 4 * segmentSize

// scan reads in once and computes its hash, if wanted, and its tag, if tags is
// not nil. The caller holds one of slots; goroutines beyond that one run while
// slots are free that nobody waits for, and have ended when scan returns.
func scan(ctx context.Context, in *Input, hash bool, tags *tagger, slots *semaphore.Weighted) (digest, error) {
	if err := ctx.Err(); err != nil {
		return digest{}, err
	}
	w := workers.Get().(*worker)
	defer workers.Put(w)
	w.cold = in.form == formBytes
	if in.form == formBytes && len(in.b) < parallelSize {
		d := digest{size: in.size}
		if hash {
			d.hash = rootHash(w.subtree(in.b, 0))
		}
		if tags != nil {
			d.tag = tags.sum(w, in.b)
		}
		return d, nil
	}
	p := &pass{ctx: ctx, in: *in, slots: slots, crew: int32(runtime.GOMAXPROCS(0)) - 1}
	p.tree.hash, p.tree.tags = hash, tags
	p.run(w)
	if p.err != nil {
		return digest{}, p.err
	}
	return p.tree.digest(w), nil
}

// pass is one reading of an input by several goroutines. Each claims the next
// segment, reads it and adds it to the tree, until none is left.
type pass struct {
	ctx   context.Context // of one scan, which does not outlive its call
	in    Input
	tree  tree
	slots *semaphore.Weighted

	helpers sync.WaitGroup
	crew    int32         // helpers that may still be started; only the caller's goroutine does
	back    atomic.Int32  // helpers that have ended
	next    atomic.Uint64 // segment to claim

	stream struct {
		sync.Mutex // held while reading
		done       bool
	}

	stopped atomic.Bool
	failure sync.Once
	err     error // set by failure, before stopped
}

// run is the caller's part. It takes on helpers as slots come free, and returns
// after they have ended.
func (p *pass) run(w *worker) {
	defer p.helpers.Wait()
	for {
		p.crew += p.back.Swap(0)
		for p.crew > 0 && p.worthHelp() && p.slots.TryAcquire(1) {
			p.crew--
			p.helpers.Go(p.help)
		}
		if !p.step(w) {
			return
		}
	}
}

// worthHelp reports whether segments are left beyond the caller's next.
func (p *pass) worthHelp() bool {
	next := p.next.Load()
	if p.in.form == formStream {
		return next > 0
	}
	return int64(next+1)*segmentSize < p.in.size
}

// help works until nothing is left, or until another slice waits for the slot.
func (p *pass) help() {
	w := workers.Get().(*worker)
	defer workers.Put(w)
	w.cold = p.in.form == formBytes
	defer p.back.Add(1)
	held := true
	defer func() {
		if held {
			p.slots.Release(1)
		}
	}()
	for p.step(w) {
		// TryAcquire fails while someone waits.
		p.slots.Release(1)
		if held = p.slots.TryAcquire(1); !held {
			return
		}
	}
}

// step does one segment and reports whether more may be left.
func (p *pass) step(w *worker) (more bool) {
	if p.stopped.Load() {
		return false
	}
	if err := p.ctx.Err(); err != nil {
		p.fail(err)
		return false
	}
	ended := false
	defer func() {
		if ended {
			return
		}
		// A helper's panic would end the process; after a runtime.Goexit a
		// segment would be missing.
		if v := recover(); v != nil {
			p.fail(&PanicError{Value: v, Stack: debug.Stack()})
		} else {
			p.fail(errGoexit)
		}
	}()
	data, index, ok := p.claim(w)
	if ok {
		p.tree.add(w, data, index)
	}
	ended = true
	return ok
}

func (p *pass) claim(w *worker) (data []byte, index uint64, ok bool) {
	if p.in.form == formStream {
		return p.claimNext(w.buffer())
	}
	index = p.next.Add(1) - 1
	off := int64(index) * segmentSize
	if off >= p.in.size && index > 0 {
		return nil, 0, false
	}
	n := min(segmentSize, p.in.size-off)
	if p.in.form == formBytes {
		return p.in.b[off : off+n], index, true
	}
	data = w.buffer()[:n]
	// io.ReaderAt: short only with an error, full perhaps with io.EOF.
	if got, err := p.in.at.ReadAt(data, off); got < len(data) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		p.fail(err)
		return nil, 0, false
	}
	return data, index, true
}

// claimNext reads a segment from the stream. An empty stream has one, empty.
func (p *pass) claimNext(buf []byte) (data []byte, index uint64, ok bool) {
	p.stream.Lock()
	defer p.stream.Unlock()
	if p.stream.done || p.stopped.Load() {
		return nil, 0, false
	}
	n, err := fill(p.ctx, p.in.r, buf)
	p.stream.done = err != nil
	if err != nil && err != io.EOF {
		p.fail(err)
		return nil, 0, false
	}
	index = p.next.Load()
	if n == 0 && index > 0 {
		return nil, 0, false
	}
	p.next.Add(1)
	return buf[:n], index, true
}

// fill reads until buf is full or the reader fails, looking at ctx in between.
func fill(ctx context.Context, r io.Reader, buf []byte) (n int, err error) {
	for idle := 0; n < len(buf) && err == nil; {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		var k int
		k, err = r.Read(buf[n:])
		if k < 0 || k > len(buf)-n {
			return n, errors.New("workload: the input's reader returned an impossible count")
		}
		n += k
		if idle++; k > 0 {
			idle = 0
		} else if idle == 100 && err == nil {
			err = io.ErrNoProgress
		}
	}
	return n, err
}

func (p *pass) fail(err error) {
	p.failure.Do(func() {
		p.err = err
		p.stopped.Store(true)
	})
}
