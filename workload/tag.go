package workload

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
)

// tag recognises content that was seen before. Tags of one tagger are equal for
// equal content; for other content of the same length they differ, except with a
// chance below 2^-100 that nobody can raise who does not know the key.
type tag [16]byte

// A tagger computes tags under a random key of its own. It uses GMAC as a
// universal hash, twice as fast as BLAKE3 where AES and carry-less multiplication
// are instructions. The nonce never changes: that would give away a MAC that
// others see, but a tag never leaves the process and is only ever compared.
type tagger struct {
	aead  cipher.AEAD
	nonce []byte
}

func newTagger() (*tagger, error) {
	var key [16]byte
	rand.Read(key[:]) // never fails
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("workload: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("workload: %w", err)
	}
	return &tagger{aead, make([]byte, aead.NonceSize())}, nil
}

// sum returns the tag of p. Longer content is tagged segment by segment and
// joined in the shape of the BLAKE3 tree, so that both can be computed in one
// pass, in any order.
func (t *tagger) sum(w *worker, p []byte) tag {
	if len(p) <= segmentSize {
		t.aead.Seal(w.out[:0], t.nonce, nil, p)
		return w.out
	}
	mid := half(len(p))
	l := t.sum(w, p[:mid])
	return t.join(w, l, t.sum(w, p[mid:]))
}

func (t *tagger) join(w *worker, l, r tag) tag {
	copy(w.pair[:], l[:])
	copy(w.pair[len(l):], r[:])
	t.aead.Seal(w.out[:0], t.nonce, nil, w.pair[:])
	return w.out
}

// A recorder tags a stream as it goes by.
type recorder struct {
	tree tree
	w    *worker
	n    int    // bytes in the worker's buffer
	next uint64 // segment
}

func newRecorder(tags *tagger) *recorder {
	r := &recorder{w: newWorker(false)}
	r.tree.tags = tags
	return r
}

func (r *recorder) free() { r.w.free() }

func (r *recorder) write(p []byte) {
	buf := r.w.buffer()
	for len(p) > 0 {
		n := copy(buf[r.n:], p)
		r.n += n
		p = p[n:]
		if r.n == segmentSize {
			r.flush()
		}
	}
}

func (r *recorder) flush() {
	r.tree.add(r.w, r.w.buffer()[:r.n], r.next)
	r.n = 0
	r.next++
}

// digest returns the tag and size of all that was written.
func (r *recorder) digest() digest {
	if r.n > 0 || r.next == 0 {
		r.flush()
	}
	return r.tree.digest(r.w)
}
