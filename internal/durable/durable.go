// Package durable puts files and folders where they outlast a crash. It is the
// one place that knows how: a temporary file is written and synced, renamed, and
// the folder that has the name is synced.
//
// After an error what was there before is there still, whole, and the temporary
// file is gone if it can be. One error says otherwise: [ErrUnsynced].
package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// ErrUnsynced reports that a change of names was made but that its folder could
// not be synced. Programs see the new state; a crash may bring back the one
// before. Whoever keeps an account of what is durable has to stop here, and
// whoever can do the whole again may: what was written before it is not trusted.
var ErrUnsynced = errors.New("the change was made, but its folder could not be synced: a crash may undo it")

// TempPrefix begins the names of the temporary files that [WriteFile] makes. Who
// lists a folder that is written to passes them by.
const TempPrefix = ".tmp-"

// WriteFile makes data the content of the file at name, at once and durably.
// Links are followed, and a file that is there keeps its mode; a new one gets
// perm less the umask. Calls for one name may run side by side: one is the last.
// A crash can leave a temporary file in its folder, whose name begins with
// [TempPrefix].
//
// Possible errors: [ErrUnsynced], and those of [Replace].
func WriteFile(fsys FS, name string, data []byte, perm fs.FileMode) error {
	return Replace(fsys, name, func(target string) string {
		return filepath.Join(filepath.Dir(target), TempPrefix+rand.Text())
	}, data, perm)
}

// Replace is WriteFile for a caller who chooses the temporary file, so that it
// can be found and removed after a crash: tmp is given the name of the file, no
// link any more, and returns one in the same folder, where nothing may be.
//
// Possible errors: [ErrUnsynced]; syscall.EISDIR for a folder of that name,
// fs.ErrInvalid for anything else that is no file; fs.ErrNotExist if the folder
// is missing; those of the file system.
func Replace(fsys FS, name string, tmp func(target string) string, data []byte, perm fs.FileMode) error {
	target, err := fsys.Resolve(name)
	if err != nil {
		return explain(err, name)
	}
	old, err := fsys.Mode(target)
	there := err == nil
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return explain(err, target)
	case !old.IsRegular():
		return notAFile(target, old)
	default:
		perm = old.Perm()
	}
	f, err := Create(fsys, tmp(target), perm)
	if err != nil {
		return err
	}
	if there {
		err = f.h.Chmod(perm) // what the umask took
	}
	if err == nil {
		_, err = f.Write(data)
	}
	if err != nil {
		return errors.Join(err, f.Abort())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := Rename(fsys, f.name, target); err != nil {
		if !errors.Is(err, ErrUnsynced) {
			fsys.Remove(f.name) // the rename's error says more
		}
		return err
	}
	return nil
}

// Rename gives the file or folder at from the name to, durably; a file that is
// there is replaced. If the folders differ, only the new one is synced: after a
// crash the file can have both names, and never none.
//
// Possible errors: [ErrUnsynced], and those of the file system, with nothing
// done.
func Rename(fsys FS, from, to string) error {
	if err := fsys.Rename(from, to); errors.Is(err, fs.ErrNotExist) {
		return err // the folder, or the file: the error names both
	} else if err != nil {
		return explain(err, to)
	}
	return syncFolderOf(fsys, to)
}

// MkdirAll makes the folder at name, and those above it, with perm less the
// umask. All that it has made is durable, and so is a folder that is there: a
// process that was killed may have made it without syncing the one above.
//
// Possible errors: [ErrUnsynced], and those of the file system.
func MkdirAll(fsys FS, name string, perm fs.FileMode) error {
	name = filepath.Clean(name)
	above := filepath.Dir(name)
	mode, err := fsys.Mode(name)
	switch {
	case err == nil && !mode.IsDir():
		return fmt.Errorf("%s is a file where a folder is needed: move it away, or choose another place: %w", name, fs.ErrExist)
	case err == nil && above == name:
		return nil // the root
	case err == nil:
		// A folder that nobody may look into is none that we have made.
		if err := syncFolderOf(fsys, name); !errors.Is(err, fs.ErrPermission) {
			return err
		}
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return explain(err, name)
	}
	// Each is synced before the next is made in it, so at most the last of a row
	// is ever unsynced.
	if err := MkdirAll(fsys, above, perm); err != nil {
		return err
	}
	if err := fsys.Mkdir(name, perm); err != nil {
		// Somebody may have been faster, or a link leads nowhere.
		if mode, gone := fsys.Mode(name); gone != nil || !mode.IsDir() {
			return explain(err, name)
		}
	}
	return syncFolderOf(fsys, name)
}

func syncFolderOf(fsys FS, name string) error {
	if err := fsys.SyncDir(filepath.Dir(name)); err != nil {
		return fmt.Errorf("%s: %w: %w", name, ErrUnsynced, err)
	}
	return nil
}
