package courier

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// seats bounds how many requests are served at once, of all and of each party.
type seats struct {
	all, each int // the most

	mu    sync.Mutex
	taken int
	by    map[string]int // by party, those that have any
}

// take reports whether there is a seat for party, who must leave it.
func (s *seats) take(party string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken >= s.all || s.by[party] >= s.each {
		return false
	}
	s.taken++
	if s.by == nil {
		s.by = map[string]int{}
	}
	s.by[party]++
	return true
}

func (s *seats) leave(party string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if s.by[party]--; s.by[party] == 0 {
		delete(s.by, party)
	}
}

// remote is the party of a request by its address. One household or one machine
// has all the addresses of an IPv6 network of 64 bits.
func remote(req *http.Request) string {
	host, _, err := net.SplitHostPort(req.RemoteAddr)
	if err != nil {
		return req.RemoteAddr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	ip = ip.Unmap()
	if ip.Is6() {
		if net, err := ip.WithZone("").Prefix(64); err == nil {
			return net.String()
		}
	}
	return ip.String()
}

// patient reads a request's body as long as the sender keeps at it: something
// within each timeout, and at least rate bytes per second after the first. A
// negative rate asks for none.
type patient struct {
	body    io.Reader
	conn    *http.ResponseController
	timeout time.Duration
	rate    int64
	began   time.Time
	n       int64
	ended   bool // the whole was read
	failed  bool // the sender has hung up, or is too slow
}

func newPatient(w http.ResponseWriter, req *http.Request, o *HandlerOptions) *patient {
	return &patient{
		body: req.Body, conn: http.NewResponseController(w), timeout: o.Timeout, rate: o.MinRate, began: time.Now(),
		// Whether the sender is there is then asked by the server, for the whole
		// of the request: a deadline would end it.
		ended: req.Body == http.NoBody || req.Body == nil,
	}
}

// Read sets the connection's read deadline anew, where there is a connection,
// and none when the body has come to its end: what follows takes our own time.
func (p *patient) Read(b []byte) (int, error) {
	if p.ended {
		return 0, io.EOF
	}
	p.conn.SetReadDeadline(p.deadline())
	n, err := p.body.Read(b)
	p.n += int64(n)
	if err == io.EOF {
		p.ended = true
		p.conn.SetReadDeadline(time.Time{})
	} else if err != nil {
		p.failed = true
	}
	return n, err
}

func (p *patient) deadline() time.Time {
	if p.rate < 0 {
		return time.Now().Add(p.timeout)
	}
	most := p.began.Add(p.timeout).Add(seconds(p.n / p.rate))
	if next := time.Now().Add(p.timeout); next.Before(most) {
		return next
	}
	return most
}

func seconds(n int64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Second)
	return time.Duration(min(n, most)) * time.Second
}

// leave says that no more will be read, though there may be more. The server
// looks for the end of it, to use the connection again, but not for long.
func (p *patient) leave() {
	if !p.ended {
		p.conn.SetReadDeadline(time.Now().Add(min(p.timeout, 5*time.Second)))
	}
}
