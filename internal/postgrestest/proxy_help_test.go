package postgrestest

import (
	"bytes"
	"net"
	"sync/atomic"
	"testing"
)

// proxy stands between a client and the server, and can lose what passes.
type proxy struct {
	net.Listener
	target string
	pick   func(toServer []byte) fault // what to do with bytes from the client
}

// fault is what a proxy does with a message of the client.
type fault uint8

const (
	pass       fault = iota
	cutBefore        // it is lost, and so is the connection
	loseAnswer       // it arrives; when the server has answered, the connection is lost
	freeze           // it is kept, and so is the connection
)

// isCommit reports whether the client says COMMIT. Who commits by a single
// statement says nothing of it.
func isCommit(toServer []byte) bool { return bytes.Contains(toServer, []byte("commit\x00")) }

func newProxy(tb testing.TB, target string) *proxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &proxy{Listener: l, target: target, pick: func([]byte) fault { return pass }}
	tb.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go p.link(client)
		}
	}()
	return p
}

func (p *proxy) link(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	var mute atomic.Bool
	go func() {
		defer client.Close()
		defer server.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil || mute.Load() {
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		switch p.pick(buf[:n]) {
		case cutBefore:
			return
		case loseAnswer:
			mute.Store(true)
		case freeze:
			continue
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}
