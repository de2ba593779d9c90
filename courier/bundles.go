package courier

import (
	"context"
	"fmt"
	"hash"
	"io"
	"iter"
	"sync"

	"lukechampine.com/blake3"
)

// Bundles keeps bundles by hash, equal ones once. [Dir] is one; package
// couriertest has a model, and the tests for others.
//
// Whoever implements it:
//
//   - keeps nothing that was not committed: what was begun and not committed is
//     in no Open and no All, and is gone after a restart;
//   - copies or writes what Write is given, whose slice is the caller's again;
//   - serves all methods at once. A Courier never removes a hash while it commits
//     the same one;
//   - returns ErrLocked from every method to a second user of the same place, or
//     serves both;
//   - returns ErrClosed after its Close, if it has one;
//   - returns ErrNotFound for a bundle that is lost, and for no other reason: the
//     courier gives its receipt up. What cannot be reached just now is another
//     error, and is tried again.
//
// All methods return the context's error when it has ended.
type Bundles interface {
	// Create starts a bundle whose hash is not known yet.
	Create(ctx context.Context) (BundleWriter, error)
	// Open returns the bundle, or ErrNotFound. It need not verify it: the courier
	// does.
	Open(ctx context.Context, h Hash) (io.ReadCloser, error)
	// Remove deletes the bundle, if it is there.
	Remove(ctx context.Context, h Hash) error
	// All yields the hashes of what is kept, in any order and in constant
	// memory. The first error ends it. Every other method may be called from the
	// body of the loop.
	All(ctx context.Context) iter.Seq2[Hash, error]
}

// BundleWriter takes the bytes of one bundle. One goroutine uses it, and ends
// with either Commit or Abort.
type BundleWriter interface {
	io.Writer
	// Commit keeps what was written under h, which is its hash. When it returns
	// nil, the bundle is durable; when not, nothing is kept and an Abort does no
	// more. What was kept under h before is replaced, as it may be damaged. A
	// second Commit, and one after Abort, is an error and changes nothing.
	Commit(h Hash) error
	// Abort drops what was written. After Commit or Abort it does nothing.
	Abort() error
}

// A digest hashes a bundle on its way.
type digest struct {
	hash.Hash
	buf [32 << 10]byte
}

// digests saves the hasher's and the buffer's 50 KiB at each small bundle.
var digests = sync.Pool{New: func() any { return &digest{Hash: blake3.New(32, nil)} }}

func newDigest() *digest {
	d := digests.Get().(*digest)
	d.Reset()
	return d
}

func (d *digest) sum() (h Hash) {
	d.Sum(h[:0])
	return h
}

// copyTo copies at most limit bytes of src to dst, which may be nil, and to the
// hash. It returns ErrTooLarge if src holds more.
func (d *digest) copyTo(ctx context.Context, dst io.Writer, src io.Reader, limit int64) (Hash, int64, error) {
	size, empty := int64(0), 0
	for {
		if err := ctx.Err(); err != nil {
			return Hash{}, 0, err
		}
		n, err := src.Read(d.buf[:])
		if size += int64(n); size > limit {
			return Hash{}, 0, fmt.Errorf("%w: over %d bytes", ErrTooLarge, limit)
		}
		d.Write(d.buf[:n])
		if dst != nil && n > 0 {
			if _, err := dst.Write(d.buf[:n]); err != nil {
				return Hash{}, 0, err
			}
		}
		if err == io.EOF {
			return d.sum(), size, nil
		}
		if err != nil {
			return Hash{}, 0, fmt.Errorf("courier: read the bundle: %w", err)
		}
		if empty++; n > 0 {
			empty = 0
		} else if empty > 100 {
			return Hash{}, 0, io.ErrNoProgress
		}
	}
}

// verifier reads a bundle and ends with ErrMismatch in place of EOF when it was
// not the one that the receipt names.
type verifier struct {
	src  io.Reader
	want Receipt
	hash hash.Hash
	size int64
	err  error // what ended it
}

func newVerifier(src io.Reader, want Receipt) *verifier {
	return &verifier{src: src, want: want, hash: blake3.New(32, nil)}
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.src.Read(p)
	v.size += int64(n)
	v.hash.Write(p[:n])
	switch {
	case v.size > v.want.Size:
		n, err = 0, fmt.Errorf("%w: over %d bytes", ErrMismatch, v.want.Size)
	case err == io.EOF && v.size < v.want.Size:
		err = fmt.Errorf("%w: %d bytes of %d", ErrMismatch, v.size, v.want.Size)
	case err == io.EOF && Hash(v.hash.Sum(nil)) != v.want.Bundle:
		err = fmt.Errorf("%w: wrong hash", ErrMismatch)
	}
	v.err = err
	return n, err
}

// pins hold bundles in place between their commit and the append of the receipt
// that needs them.
type pins struct {
	mu       sync.Mutex
	count    map[Hash]int
	removing map[Hash]chan struct{} // closed when done
}

// hold waits for a removal under way, and prevents others until drop.
func (p *pins) hold(h Hash) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.removing[h] != nil {
		done := p.removing[h]
		p.mu.Unlock()
		<-done
		p.mu.Lock()
	}
	if p.count == nil {
		p.count = map[Hash]int{}
	}
	p.count[h]++
}

func (p *pins) drop(h Hash) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count[h]--; p.count[h] == 0 {
		delete(p.count, h)
	}
}

// removal runs remove unless h is held, or being removed already.
func (p *pins) removal(h Hash, remove func() error) error {
	p.mu.Lock()
	if p.count[h] > 0 || p.removing[h] != nil {
		p.mu.Unlock()
		return nil
	}
	if p.removing == nil {
		p.removing = map[Hash]chan struct{}{}
	}
	done := make(chan struct{})
	p.removing[h] = done
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.removing, h)
		p.mu.Unlock()
		close(done)
	}()
	return remove()
}
