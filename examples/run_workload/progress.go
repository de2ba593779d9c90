package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// counter counts the bytes that are read through it.
type counter struct {
	io.Reader
	io.ReaderAt
	n atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.n.Add(int64(n))
	return n, err
}

// isTerminal reports whether w is a terminal, or another character device that
// is not the null device.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// showProgress draws a bar for n of size bytes (-1: unknown) on w once the work
// has taken a second. stop wipes it; the bar is gone when stop returns.
func showProgress(w io.Writer, name string, n *atomic.Int64, size int64) (stop func()) {
	done := make(chan struct{})
	var drawing sync.WaitGroup
	start := time.Now()
	drawing.Go(func() {
		select {
		case <-done:
			return
		case <-time.After(time.Second):
		}
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			fmt.Fprintf(w, "\r%s\x1b[K", bar(name, n.Load(), size, time.Since(start)))
			select {
			case <-done:
				io.WriteString(w, "\r\x1b[K")
				return
			case <-tick.C:
			}
		}
	})
	return func() {
		close(done)
		drawing.Wait()
	}
}

// bar is one line, short enough for 80 columns.
func bar(name string, n, size int64, elapsed time.Duration) string {
	if len(name) > 24 {
		name = "..." + name[len(name)-21:]
	}
	name = strings.ToValidUTF8(strings.Map(printable, name), "?")
	speed := float64(n) / max(elapsed.Seconds(), 1e-9) / (1 << 30)
	done := fmt.Sprintf("%.1f GiB, %.2f GiB/s", float64(n)/(1<<30), speed)
	if size <= 0 {
		return name + " " + done
	}
	const width = 20
	full := int(min(n, size) * width / size)
	return fmt.Sprintf("%s [%s%s] %d%% %s", name,
		strings.Repeat("#", full), strings.Repeat(".", width-full), min(n, size)*100/size, done)
}

// printable keeps a file's name from steering the terminal.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '?'
	}
	return r
}
