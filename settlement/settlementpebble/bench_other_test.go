//go:build !linux

package settlementpebble_test

import "os"

func fdatasync(f *os.File) error { return f.Sync() }
