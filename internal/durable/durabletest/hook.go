// Package durabletest has file systems on which writing fails or stops at any
// step, and one that forgets at a crash what was not synced.
package durabletest

import (
	"io/fs"

	"github.com/computemarket/computemarket/internal/durable"
)

// Hook returns fsys with before called ahead of each step that can fail or that
// a crash can come before; an error of before is that step's. A write is two
// steps, so that a part of it can be all there is.
func Hook(fsys durable.FS, before func() error) durable.FS { return &hooked{fsys, before} }

type hooked struct {
	durable.FS
	before func() error
}

func (h *hooked) do(step func() error) error {
	if err := h.before(); err != nil {
		return err
	}
	return step()
}

func (h *hooked) Resolve(name string) (target string, err error) {
	err = h.do(func() error { target, err = h.FS.Resolve(name); return err })
	return target, err
}

func (h *hooked) Mode(name string) (mode fs.FileMode, err error) {
	err = h.do(func() error { mode, err = h.FS.Mode(name); return err })
	return mode, err
}

func (h *hooked) Create(name string, perm fs.FileMode) (durable.Handle, error) {
	var f durable.Handle
	err := h.do(func() (err error) { f, err = h.FS.Create(name, perm); return err })
	if err != nil {
		return nil, err
	}
	return &hookedFile{f, h}, nil
}

func (h *hooked) Mkdir(name string, perm fs.FileMode) error {
	return h.do(func() error { return h.FS.Mkdir(name, perm) })
}

func (h *hooked) Rename(from, to string) error {
	return h.do(func() error { return h.FS.Rename(from, to) })
}

func (h *hooked) Remove(name string) error {
	return h.do(func() error { return h.FS.Remove(name) })
}

func (h *hooked) SyncDir(name string) error {
	return h.do(func() error { return h.FS.SyncDir(name) })
}

type hookedFile struct {
	durable.Handle
	h *hooked
}

func (f *hookedFile) Write(p []byte) (n int, err error) {
	for _, part := range [][]byte{p[:len(p)/2], p[len(p)/2:]} {
		err = f.h.do(func() error {
			m, err := f.Handle.Write(part)
			n += m
			return err
		})
		if err != nil {
			break
		}
	}
	return n, err
}

func (f *hookedFile) Chmod(perm fs.FileMode) error {
	return f.h.do(func() error { return f.Handle.Chmod(perm) })
}

func (f *hookedFile) Sync() error { return f.h.do(f.Handle.Sync) }

// Close closes in any case, so that a test that injects an error leaks nothing.
func (f *hookedFile) Close() error {
	err := f.h.before()
	if cerr := f.Handle.Close(); err == nil {
		err = cerr
	}
	return err
}
