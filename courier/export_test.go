package courier

import (
	"io"
	"iter"
)

// Files is a file system for DirBundles in tests.
type Files interface {
	MkdirAll(dir string) error
	Create(name string) (interface {
		io.WriteCloser
		Sync() error
	}, error)
	Open(name string) (io.ReadCloser, error)
	Rename(from, to string) error
	Remove(name string) error
	List(dir string) ([]string, error)
	SyncDir(dir string) error
}

// DirBundlesOn is DirBundles on another file system.
func DirBundlesOn(f Files, path string) Bundles {
	return &dirBundles{path: path, files: testFiles{f}}
}

type testFiles struct{ f Files }

func (t testFiles) mkdirAll(dir string) error               { return t.f.MkdirAll(dir) }
func (t testFiles) create(name string) (newFile, error)     { return t.f.Create(name) }
func (t testFiles) open(name string) (io.ReadCloser, error) { return t.f.Open(name) }
func (t testFiles) rename(from, to string) error            { return t.f.Rename(from, to) }
func (t testFiles) remove(name string) error                { return t.f.Remove(name) }
func (t testFiles) syncDir(dir string) error                { return t.f.SyncDir(dir) }

func (t testFiles) list(dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		names, err := t.f.List(dir)
		if err != nil {
			yield("", err)
			return
		}
		for _, name := range names {
			if !yield(name, nil) {
				return
			}
		}
	}
}
