package priceboard

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestTwoBoards: in one process, the second board on a file is refused until the
// first is closed, by any name of the folder.
func TestTwoBoards(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Skip(err)
	}
	path := filepath.Join(dir, "price_board.v1.bin")
	store := File(path, nil)
	b := openBoard(t, store, nil)
	b.Record(1)
	for name, second := range map[string]Store{
		"another handle":  File(path, nil),
		"through a link":  File(filepath.Join(link, "price_board.v1.bin"), nil),
		"the same handle": store,
		"roundabout":      File(dir+"/./../"+filepath.Base(dir)+"/price_board.v1.bin", nil),
	} {
		if _, err := Open(t.Context(), second, nil); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: %v, want ErrLocked", name, err)
		}
	}
	if err := File(path, nil).Save(t.Context(), oldSnap); !errors.Is(err, ErrLocked) {
		t.Errorf("Save by another handle: %v, want ErrLocked", err)
	}
	if err := b.Save(t.Context()); err != nil {
		t.Errorf("the first board was disturbed: %v", err)
	}
	neighbour := openBoard(t, File(filepath.Join(dir, "other.bin"), nil), nil)
	if err := errors.Join(neighbour.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	b = openBoard(t, File(path, nil), nil)
	if r := b.LoadResult(); r.Prices != 1 {
		t.Errorf("%+v", r)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// child runs this test binary again as a process that opens the board at path,
// and then saves windows of equal prices 1, 1, …, 2, 2, … as fast as it can,
// naming each when its save has returned, until it is killed.
func child(t *testing.T, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), "PRICEBOARD_CHILD="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip("cannot start a process:", err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, bufio.NewScanner(out)
}

const childWindow = 3000

// TestChild is the process that child starts; on its own it does nothing.
func TestChild(t *testing.T) {
	path := os.Getenv("PRICEBOARD_CHILD")
	if path == "" {
		t.Skip("runs as a child of TestKill")
	}
	b := openBoard(t, File(path, nil), &Options{Window: childWindow})
	for k := uint64(1); ; k++ {
		for range childWindow {
			b.Record(k)
		}
		if err := b.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Println("saved", k); err != nil {
			return // the parent is gone
		}
	}
}

// TestKill starts a process that saves without pause, sees that it alone holds
// the file, and kills it at some point: the claim is released, and the file is a
// whole window, not older than what the process has told.
func TestKill(t *testing.T) {
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	path := filepath.Join(t.TempDir(), "price_board.v1.bin")
	for round := range rounds {
		cmd, lines := child(t, path)
		var told uint64
		for n := 0; n < 3+5*round && lines.Scan(); {
			if _, err := fmt.Sscanf(strings.TrimSpace(lines.Text()), "saved %d", &told); err == nil {
				n++
			}
		}
		if told == 0 {
			t.Fatal("the child told nothing")
		}
		if _, err := Open(t.Context(), File(path, nil), nil); !errors.Is(err, ErrLocked) {
			t.Errorf("beside a running process: %v, want ErrLocked", err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it told before it died
			fmt.Sscanf(strings.TrimSpace(lines.Text()), "saved %d", &told)
		}
		cmd.Wait()

		b := openBoard(t, File(path, nil), &Options{Window: childWindow})
		prices := b.queue.appendTo(nil)
		if r := b.LoadResult(); r.Outcome != Restored || len(prices) != childWindow ||
			len(slices.Compact(prices)) != 1 || prices[0] < told {
			t.Fatalf("round %d: %+v, %d prices from %v, told %d", round, r, len(prices), prices[:1], told)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
