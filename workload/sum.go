package workload

import (
	"context"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// Sum returns the BLAKE3-256 of b. A large b is hashed on all cores.
func Sum(b []byte) Hash {
	if len(b) < parallelSize {
		w := newWorker(true)
		defer w.free()
		return rootHash(w.subtree(b, 0))
	}
	h, err := SumInput(context.Background(), Bytes(b))
	if err != nil {
		panic(err) // bytes cannot fail
	}
	return h
}

// SumInput returns the BLAKE3-256 of in. Bytes, files and anything that is read
// at offsets are hashed on all cores. A stream is read by one goroutine, in
// constant memory, and hashed on all cores. With the ctx that a [Job] was given
// it takes no more cores than the Runner has workers to spare.
//
// Possible errors are [ErrSlice], ctx's, those of the reader, and [PanicError]
// if the reader panics.
func SumInput(ctx context.Context, in Input) (Hash, error) {
	if err := in.validate(); err != nil {
		return Hash{}, err
	}
	slots, ok := ctx.Value(slotsKey{}).(*semaphore.Weighted)
	if !ok {
		slots = semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0)))
		slots.TryAcquire(1) // this goroutine
	}
	d, err := scan(ctx, &in, true, nil, slots)
	return d.hash, err
}

type slotsKey struct{}

// withSlots returns the ctx of a job that runs in one of slots.
func withSlots(ctx context.Context, slots *semaphore.Weighted) context.Context {
	return context.WithValue(ctx, slotsKey{}, slots)
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
	w := newWorker(in.form == formBytes)
	defer w.free()
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
		p.fail(contained("Reader.Read", p.stream))
	} else {
		p.segments = max(1, (in.size-1)/segmentSize+1)
		p.fail(contained("ReaderAt.ReadAt", p.lead))
	}
	p.helpers.Wait()
	if err := p.failure.Load(); err != nil {
		return digest{}, *err
	}
	return p.tree.digest(w), nil
}

// pass is one reading of an input by several goroutines: the leader, which works
// in the slot of scan's caller, and helpers, each in a slot that was free.
type pass struct {
	ctx   context.Context // of one scan, which does not outlive its call
	in    Input
	tree  tree
	slots *semaphore.Weighted

	crew    int32        // helpers at once, at most
	helping atomic.Int32 // helpers at work; only the leader adds
	helpers sync.WaitGroup

	segments int64        // of an input that is read at offsets
	next     atomic.Int64 // segment to claim

	failure atomic.Pointer[error] // the first; everybody stops
}

// recruit takes a slot for a helper, if one is free and may be used. The helper
// ends with leave.
func (p *pass) recruit() bool {
	if p.helping.Load() >= p.crew || !p.slots.TryAcquire(1) {
		return false
	}
	p.helping.Add(1)
	return true
}

// leave gives back the helper's slot, if it still holds it.
func (p *pass) leave(held bool) {
	p.helping.Add(-1)
	if held {
		p.slots.Release(1)
	}
}

// stream is the leader's part of a stream. It alone reads, so that a slow stream
// holds one slot. A segment that it has read a helper hashes, if there is one, and
// otherwise the leader itself.
func (p *pass) stream() error {
	src := source{ctx: p.ctx, r: p.in.r}
	w := newWorker(false)
	defer func() { w.free() }()
	for index := uint64(0); ; index++ {
		n, err := src.fill(w.buffer())
		switch {
		case err != nil && err != io.EOF:
			return err
		case n == 0 && index > 0: // only an empty stream has an empty segment
			return nil
		case err == nil && p.recruit():
			p.handOver(w, n, index)
			w = newWorker(false)
		default:
			p.tree.add(w, w.buf[:n], index)
		}
		if err == io.EOF {
			return nil
		}
	}
}

// handOver gives a recruited helper the segment that w has read, and w with it.
func (p *pass) handOver(w *worker, n int, index uint64) {
	p.helpers.Go(func() {
		defer p.leave(true)
		defer w.free()
		p.tree.add(w, w.buf[:n], index)
	})
}

// lead is the leader's part of an input that is read at offsets: each goroutine
// claims the next segment, reads it and adds it to the tree, until none is left.
// Helpers come as slots come free.
func (p *pass) lead() error {
	w := newWorker(p.in.form == formBytes)
	defer w.free()
	for {
		for p.next.Load()+1 < p.segments && p.recruit() {
			p.helpers.Go(func() { p.fail(contained("ReaderAt.ReadAt", p.help)) })
		}
		if more, err := p.step(w); !more {
			return err
		}
	}
}

// help is a helper's part, until nothing is left or another slice waits for the
// slot.
func (p *pass) help() error {
	held := true
	defer func() { p.leave(held) }()
	w := newWorker(p.in.form == formBytes)
	defer w.free()
	for {
		if more, err := p.step(w); !more {
			return err
		}
		p.slots.Release(1)
		if held = p.slots.TryAcquire(1); !held { // as it fails while someone waits
			return nil
		}
	}
}

// step does one segment and reports whether more may be left.
func (p *pass) step(w *worker) (more bool, err error) {
	if p.failure.Load() != nil {
		return false, nil
	}
	if err := p.ctx.Err(); err != nil {
		return false, err
	}
	index := p.next.Add(1) - 1
	if index >= p.segments {
		return false, nil
	}
	off := index * segmentSize
	data, err := p.in.piece(w, off, min(segmentSize, p.in.size-off))
	if err != nil {
		return false, err
	}
	p.tree.add(w, data, uint64(index))
	return true, nil
}

// fail keeps the first error there is.
func (p *pass) fail(err error) {
	if err != nil {
		first := err
		p.failure.CompareAndSwap(nil, &first)
	}
}
