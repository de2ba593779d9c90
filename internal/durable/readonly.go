//go:build !plan9

package durable

import "syscall"

// errReadOnlyDisk is the system's answer to writing on a disk that is mounted
// for reading.
const errReadOnlyDisk = syscall.EROFS
