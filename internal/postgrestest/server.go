package postgrestest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// Server is a PostgreSQL of its own: a data directory that is removed at the
// end, a free port of 127.0.0.1, no other user but "market".
type Server struct {
	bin, dir string
	port     int
	cred     *syscall.Credential // nil: the user who runs the tests
	cmd      *exec.Cmd
	done     chan struct{} // closed when cmd has ended
}

// errMissing: this machine has no PostgreSQL.
var errMissing = errors.New("PostgreSQL is not installed (Debian: apt-get install postgresql)")

// Start starts a server that is stopped at the end of the test.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s, err := start()
	check(tb, err)
	tb.Cleanup(s.remove)
	return s
}

// check skips the test without PostgreSQL, unless it runs in CI, where that is a
// failure as any other.
func check(tb testing.TB, err error) {
	tb.Helper()
	if errors.Is(err, errMissing) && os.Getenv("CI") != "true" {
		tb.Skip("skipped: ", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

func start() (*Server, error) {
	bin, err := find()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin}
	if s.dir, err = os.MkdirTemp("", "postgrestest"); err != nil {
		return nil, err
	}
	err = s.init()
	if err == nil {
		err = s.Run()
	}
	if err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

// find returns the folder with initdb and postgres.
func find() (string, error) {
	var dirs []string
	if dir := os.Getenv("PG_BINDIR"); dir != "" {
		dirs = append(dirs, dir)
	}
	debian, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.Reverse(debian)
	dirs = append(dirs, debian...)
	if path, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, dir := range dirs {
		_, err1 := os.Stat(filepath.Join(dir, "initdb"))
		_, err2 := os.Stat(filepath.Join(dir, "postgres"))
		if err1 == nil && err2 == nil {
			return dir, nil
		}
	}
	return "", errMissing
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) init() error {
	if os.Geteuid() == 0 { // PostgreSQL refuses to run as root
		if err := s.leaveRoot(); err != nil {
			return err
		}
	}
	cmd := s.command("initdb", "-D", s.data(), "-U", "market", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// leaveRoot lets the server run as the user that Debian's package makes.
func (s *Server) leaveRoot() error {
	u, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("run the tests as another user than root: %w", err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(s.dir, uid, gid)
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred, Setpgid: true}
	return cmd
}

// Run starts the server again after [Server.Stop] or [Server.Kill], and returns
// when it takes connections. It keeps its port.
func (s *Server) Run() error {
	if s.port == 0 {
		port, err := freePort()
		if err != nil {
			return err
		}
		s.port = port
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = s.command("postgres", "-D", s.data(), "-p", strconv.Itoa(s.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "max_connections=200", "-c", "deadlock_timeout=50ms", "-c", "log_lock_waits=on", "-c", "shared_buffers=256MB",
		"-c", "max_wal_size=4GB", "-c", "recovery_init_sync_method=syncfs")
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	cmd, done := s.cmd, make(chan struct{})
	s.done = done
	go func() { cmd.Wait(); close(done) }()
	return s.ready()
}

// ready waits until a connection answers.
func (s *Server) ready() error {
	db, err := sql.Open("pgx", s.URL(""))
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if err = db.PingContext(ctx); err == nil {
			return nil
		}
		select {
		case <-s.done:
			return fmt.Errorf("PostgreSQL ended: %s", s.Log())
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL does not answer: %w\n%s", err, s.Log())
		case <-tick.C:
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Stop ends the server as an operator does, without waiting for its clients.
func (s *Server) Stop() { s.signal(syscall.SIGINT) }

// Kill ends all processes of the server with SIGKILL.
func (s *Server) Kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	s.cmd.Process.Signal(syscall.SIGSTOP) // it starts no more
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		pids := children(s.cmd.Process.Pid)
		if len(pids) == 0 {
			break
		}
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		<-tick.C
	}
	s.signal(syscall.SIGKILL)
}

// children returns the processes that pid has started and that have not ended.
// Each of them is in a process group of its own.
func children(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		b, _ := os.ReadFile(list)
		for field := range strings.FieldsSeq(string(b)) {
			stat, err := os.ReadFile("/proc/" + field + "/stat")
			_, state, _ := strings.Cut(string(stat), ") ")
			if n, aerr := strconv.Atoi(field); err == nil && aerr == nil && !strings.HasPrefix(state, "Z") {
				pids = append(pids, n)
			}
		}
	}
	return pids
}

func (s *Server) signal(sig syscall.Signal) {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	s.cmd.Process.Signal(sig)
	<-s.done
}

func (s *Server) remove() {
	s.Kill()
	os.RemoveAll(s.dir)
}

// Log returns what the server has said.
func (s *Server) Log() string {
	b, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(b)
}

// Addr is host and port.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// URL is where the tables of a schema are, "" being the default one.
func (s *Server) URL(schema string) string { return URL(s.Addr(), schema) }

// URL is the same at another address, which leads to the server.
func URL(addr, schema string) string {
	u := "postgres://market@" + addr + "/postgres?sslmode=disable"
	if schema != "" {
		u += "&search_path=" + schema
	}
	return u
}
