package courier

import "fmt"

// Disk is a file system for a Dir in tests.
type Disk = disk

// Claim is what a Disk gives for a folder.
type Claim = claim

// DirBundlesOn is DirBundles on another file system.
func DirBundlesOn(d Disk, path string) *Dir { return &Dir{path: path, disk: d} }

// Claims describes what the Courier has in hand, and what it is asked for.
func (c *Courier) Claims() string {
	c.claims.mu.Lock()
	defer c.claims.mu.Unlock()
	s := fmt.Sprint(c.claims.out, c.claims.unsure)
	for id, q := range c.claims.asked { // of tests with one receipt
		s += fmt.Sprint(" ", id, *q)
	}
	return s
}
