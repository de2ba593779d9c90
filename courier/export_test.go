package courier

// Disk is a file system for a Dir in tests.
type Disk = disk

// Claim is what a Disk gives for a folder.
type Claim = claim

// DirBundlesOn is DirBundles on another file system.
func DirBundlesOn(d Disk, path string) *Dir { return &Dir{path: path, disk: d} }
