package durabletest

import (
	"io/fs"
	"maps"
	"path"
	"slices"
	"syscall"

	"github.com/computemarket/computemarket/internal/durable"
)

// Disk is a file system in memory that knows what a crash would leave of it:
// any of the changes of names since the last sync of their folder, and any of
// four fates of data that was not synced. It has no links, and names are
// absolute. It is not safe for concurrent use.
type Disk struct {
	names   map[string]*inode // as programs see them
	stable  map[string]*inode // as the syncs of folders have left them
	changes []change          // not in stable yet, in order
}

// inode is a file or folder apart from its name.
type inode struct {
	mode   fs.FileMode
	data   []byte // as programs see it
	synced []byte // what a crash leaves for certain
	clean  bool   // data is synced
}

// change is a change of names: to is bound to node, and from is free.
type change struct {
	from, to string
	node     *inode
}

var _ durable.FS = (*Disk)(nil)

// NewDisk returns a disk with an empty root folder.
func NewDisk() *Disk {
	root := map[string]*inode{"/": {mode: fs.ModeDir | 0o755, clean: true}}
	return &Disk{names: root, stable: maps.Clone(root)}
}

// Put makes a file, or replaces one, durably.
func (d *Disk) Put(name string, data []byte) {
	n := &inode{mode: 0o644, data: slices.Clone(data), synced: slices.Clone(data), clean: true}
	d.names[name], d.stable[name] = n, n
}

// Get returns what programs read at name.
func (d *Disk) Get(name string) ([]byte, error) {
	n := d.names[name]
	if n == nil || n.mode.IsDir() {
		return nil, fail("open", name, syscall.ENOENT)
	}
	return slices.Clone(n.data), nil
}

// Names returns all names but the root's, in order.
func (d *Disk) Names() []string {
	all := slices.Sorted(maps.Keys(d.names))
	return slices.DeleteFunc(all, func(name string) bool { return name == "/" })
}

// Clone returns a disk with what programs see, all of it durable.
func (d *Disk) Clone() *Disk {
	c := &Disk{names: map[string]*inode{}}
	for name, n := range d.names {
		c.names[name] = settled(n, n.data)
	}
	c.stable = maps.Clone(c.names)
	return c
}

// Survivors returns the disks that a crash can leave.
func (d *Disk) Survivors() []*Disk {
	fates := []func(n *inode) []byte{
		func(n *inode) []byte { return n.synced },
		func(n *inode) []byte { return n.data[:len(n.data)/2] },
		func(n *inode) []byte { return n.data },
		func(n *inode) []byte { return make([]byte, len(n.data)) }, // size came, data did not
	}
	var out []*Disk
	for subset := range 1 << len(d.changes) {
		names := maps.Clone(d.stable)
		for i, c := range d.changes {
			if subset>>i&1 == 1 {
				c.apply(names)
			}
		}
		for _, fate := range fates {
			s := &Disk{names: map[string]*inode{}}
			for name, n := range names {
				if !reachable(names, name) {
					continue
				}
				data := n.data
				if !n.clean {
					data = fate(n)
				}
				s.names[name] = settled(n, data)
			}
			s.stable = maps.Clone(s.names)
			out = append(out, s)
		}
	}
	return out
}

func settled(n *inode, data []byte) *inode {
	return &inode{mode: n.mode, data: slices.Clone(data), synced: slices.Clone(data), clean: true}
}

// reachable reports whether every folder above name is there.
func reachable(names map[string]*inode, name string) bool {
	for name != "/" {
		name = path.Dir(name)
		if n := names[name]; n == nil || !n.mode.IsDir() {
			return false
		}
	}
	return true
}

func (c change) apply(names map[string]*inode) {
	if c.from != "" {
		delete(names, c.from)
	}
	if c.to != "" {
		names[c.to] = c.node
	}
}

// folder is the one whose sync makes c durable.
func (c change) folder() string {
	if c.to == "" {
		return path.Dir(c.from)
	}
	return path.Dir(c.to)
}

func (d *Disk) change(c change) {
	d.changes = append(d.changes, c)
	c.apply(d.names)
}

func (d *Disk) Resolve(name string) (string, error) { return path.Clean(name), nil }

func (d *Disk) Mode(name string) (fs.FileMode, error) {
	n := d.names[name]
	if n == nil {
		return 0, fail("stat", name, syscall.ENOENT)
	}
	return n.mode, nil
}

func (d *Disk) Create(name string, perm fs.FileMode) (durable.Handle, error) {
	n := &inode{mode: perm}
	if err := d.enter("open", name, n); err != nil {
		return nil, err
	}
	return &file{n}, nil
}

func (d *Disk) Mkdir(name string, perm fs.FileMode) error {
	return d.enter("mkdir", name, &inode{mode: fs.ModeDir | perm, clean: true})
}

func (d *Disk) enter(op, name string, n *inode) error {
	if d.names[name] != nil {
		return fail(op, name, syscall.EEXIST)
	}
	if !reachable(d.names, name) {
		return fail(op, name, syscall.ENOENT)
	}
	d.change(change{to: name, node: n})
	return nil
}

// Rename renames files only.
func (d *Disk) Rename(from, to string) error {
	n := d.names[from]
	if n == nil || !reachable(d.names, to) {
		return fail("rename", from, syscall.ENOENT)
	}
	if old := d.names[to]; n.mode.IsDir() || old != nil && old.mode.IsDir() {
		return fail("rename", to, syscall.EISDIR)
	}
	d.change(change{from, to, n})
	return nil
}

func (d *Disk) Remove(name string) error {
	if d.names[name] == nil {
		return fail("remove", name, syscall.ENOENT)
	}
	d.change(change{from: name})
	return nil
}

func (d *Disk) SyncDir(name string) error {
	if _, err := d.Mode(name); err != nil {
		return err
	}
	var rest []change
	for _, c := range d.changes {
		if c.folder() == path.Clean(name) {
			c.apply(d.stable)
		} else {
			rest = append(rest, c)
		}
	}
	d.changes = rest
	return nil
}

func fail(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

type file struct{ n *inode }

func (f *file) Write(p []byte) (int, error) {
	f.n.clean = false
	f.n.data = append(f.n.data, p...)
	return len(p), nil
}

func (f *file) Sync() error {
	f.n.synced, f.n.clean = slices.Clone(f.n.data), true
	return nil
}

func (f *file) Chmod(perm fs.FileMode) error { f.n.mode = perm; return nil }

func (f *file) Close() error { return nil }
