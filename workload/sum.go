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
// at offsets are hashed on all cores. A stream is read by this goroutine alone,
// in constant memory, and hashed on all cores.
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
	if in.form == formStream {
		p.stream()
	} else {
		p.run(w)
	}
	if p.err != nil {
		return digest{}, p.err
	}
	return p.tree.digest(w), nil
}

// pass is one reading of an input by several goroutines.
type pass struct {
	ctx   context.Context // of one scan, which does not outlive its call
	in    Input
	tree  tree
	slots *semaphore.Weighted

	helpers sync.WaitGroup
	crew    int32         // helpers that may still be started; only the caller's goroutine does
	back    atomic.Int32  // helpers that have ended
	next    atomic.Uint64 // segment to claim

	stopped atomic.Bool
	failure sync.Once
	err     error // set by failure, before stopped
}

// recruit takes a slot for a helper, if one is free and may be used.
func (p *pass) recruit() bool {
	p.crew += p.back.Swap(0)
	if p.crew == 0 || !p.slots.TryAcquire(1) {
		return false
	}
	p.crew--
	return true
}

// stream is the reading of a stream. Only the caller's goroutine reads, so that
// a slow stream holds one slot; what it has read, a helper hashes, or else itself.
func (p *pass) stream() {
	defer p.helpers.Wait()
	ended := false
	defer p.caught(&ended)
	w := workers.Get().(*worker)
	defer func() { workers.Put(w) }()
	for index := uint64(0); ; index++ {
		n, err := fill(p.ctx, p.in.r, w.buffer())
		if err != nil && err != io.EOF {
			p.fail(err)
			break
		}
		data := w.buf[:n]
		w.cold = false
		switch {
		case n == 0 && index > 0: // only an empty stream has an empty segment
		case err == nil && p.recruit():
			mine := w
			p.helpers.Go(func() {
				p.tree.add(mine, data, index)
				workers.Put(mine)
				p.back.Add(1)
				p.slots.Release(1)
			})
			w = workers.Get().(*worker)
		default:
			p.tree.add(w, data, index)
		}
		if err == io.EOF {
			break
		}
	}
	ended = true
}

// run is the caller's part for an input that is read at offsets: each goroutine
// claims the next segment, reads it and adds it to the tree, until none is left.
// Helpers come as slots come free, and have ended when it returns.
func (p *pass) run(w *worker) {
	defer p.helpers.Wait()
	for {
		for int64(p.next.Load()+1)*segmentSize < p.in.size && p.recruit() {
			p.helpers.Go(p.help)
		}
		if !p.step(w) {
			return
		}
	}
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
	defer p.caught(&ended)
	data, index, ok := p.claim(w)
	if ok {
		p.tree.add(w, data, index)
	}
	ended = true
	return ok
}

// caught is deferred where the caller's reader is called. A helper's panic would
// end the process; after a runtime.Goexit a segment would be missing.
func (p *pass) caught(ended *bool) {
	if *ended {
		return
	}
	if v := recover(); v != nil {
		p.fail(&PanicError{Value: v, Stack: debug.Stack()})
	} else {
		p.fail(errGoexit)
	}
}

func (p *pass) claim(w *worker) (data []byte, index uint64, ok bool) {
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
