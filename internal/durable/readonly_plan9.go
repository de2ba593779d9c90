package durable

import "errors"

// errReadOnlyDisk is nothing that this system answers.
var errReadOnlyDisk = errors.New("read-only disk")
