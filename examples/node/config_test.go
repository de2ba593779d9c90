package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// Each field has a key in the default file, and the file has no other.
func TestDefaultConfig(t *testing.T) {
	c, err := parseConfig("config.toml", defaultConfig)
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := toml.Unmarshal(defaultConfig, &keys); err != nil {
		t.Fatal(err)
	}
	fields := reflect.TypeFor[config]()
	if fields.NumField() != len(keys) {
		t.Errorf("%d fields, %d keys", fields.NumField(), len(keys))
	}
	for f := range fields.Fields() {
		if _, ok := keys[f.Tag.Get("toml")]; !ok {
			t.Errorf("no key for %s", f.Name)
		}
	}
	if c.PriceBoardPath != "state/price_board.v1.bin" || c.PriceBoardWindow != 100 || c.PriceBoardSaveInterval != 30 {
		t.Errorf("%+v", c)
	}
	if empty, err := parseConfig("config.toml", nil); err != nil || *empty != *c {
		t.Errorf("an empty file: %+v, %v", empty, err)
	}
}

func TestConfigErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"# one\n\nprice_board = 3\n", "config.toml:3: unknown key price_board"},
		{"listen = \"127.0.0.1:1\"\n[other]\nkey = 1\n", "config.toml:2: unknown key other"},
		{"\nprice_board_window = \"many\"\n", "config.toml:2: "},
		{"\n\nprice_board_window = 0\n", "config.toml:3: price_board_window: must be 1 to 1000000"},
		{"price_board_window = -1\n", "config.toml:1: price_board_window"},
		{"price_board_save_interval = 0\n", "config.toml:1: price_board_save_interval: must be a number of seconds"},
		{"comfort_threshold_p90 = -5\n", "config.toml:1: "},
		{"comfort_quantile = nan\n", "config.toml:1: comfort_quantile"},
		{"\nlog_level = \"loud\"\n", "config.toml:2: "},
		{"listen = \"nowhere\"\n", "config.toml:1: listen"},
		{"listen = \"127.0.0.1:99999\"\n", "config.toml:1: listen"},
		{"token_file = \"\"\nlisten = \"0.0.0.0:7788\"\n", "config.toml:2: listen: an address beyond this machine needs token_file"},
		{"courier_token_file = \"\"\nlisten = \":7788\"\n", "config.toml:2: listen: an address beyond this machine"},
		{"settlement_policy = \"hope\"\n", "config.toml:1: settlement_policy"},
		{"account = \"\"\n", "config.toml:1: account"},
		{"a = = 3\n", "config.toml:1: "},
		{"listen = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"\n", "config.toml:2: "},
	} {
		_, err := parseConfig("config.toml", []byte(c.text))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q: %v, want %s", c.text, err, c.want)
		}
	}
}

// What the checks let pass, the packages take too.
func TestExtremeConfig(t *testing.T) {
	for _, settings := range [][]string{
		{"price_board_window=1", "price_board_save_interval=1", "capacity_shards=1", "job_time_limit=1", "job_workers=1",
			"book_capacity=1", "courier_max_bundle=1", "courier_attempts=1", "courier_backoff_ms=1", "comfort_quantile=0.001"},
		{"price_board_window=1000000", "price_board_save_interval=86400", "capacity_shards=1048576", "job_time_limit=21600",
			"job_workers=1024", "book_capacity=8388608", "courier_max_bundle=1099511627776", "courier_attempts=1000",
			"courier_backoff_ms=10000", "comfort_quantile=0.999", "comfort_threshold_p90=9223372036854775807",
			"settlement_policy=quarantine", "courier_reward=1000000000", "log_level=debug"},
		{"token_file=", "courier_token_file=", "listen=[::1]:0"},
	} {
		do(t, newDir(t, settings...), "prices")
	}
}

// A bad configuration stops the program with the place on one line each.
func TestConfigErrorAtStart(t *testing.T) {
	dir := newDir(t)
	path := filepath.Join(dir, configName)
	if err := os.WriteFile(path, []byte("one = 1\n\ntwo = 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"run"}, {"settlement", "status"}} {
		_, errs, code := tryDo(t, dir, args...)
		want := fmt.Sprintf("node: %s:1: unknown key one\nnode: %s:3: unknown key two\n", path, path)
		if code != 1 || errs != want {
			t.Errorf("%q: exit %d\n%s", args, code, errs)
		}
	}
}

func TestFirstStart(t *testing.T) {
	dir := newDir(t)
	if _, errs, code := tryDo(t, dir, "init"); code != 1 || !strings.Contains(errs, "already") {
		t.Errorf("init again: exit %d %s", code, errs)
	}
	n := startNode(t, dir)
	for _, name := range []string{"token", "courier_token", configName} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	before := tokenOf(t, dir)
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	startNode(t, dir).stop()
	if tokenOf(t, dir) != before {
		t.Error("a restart made another token")
	}
	if err := os.Chmod(filepath.Join(dir, "token"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := tryDo(t, dir, "run"); code != 1 || !strings.Contains(errs, "others may read the token") {
		t.Errorf("exit %d %s", code, errs)
	}
	other := filepath.Join(t.TempDir(), "none")
	if _, errs, code := tryDo(t, other, "prices"); code != 1 || !strings.Contains(errs, "is no data dir") {
		t.Errorf("exit %d %s", code, errs)
	}
	if _, err := os.Stat(other); !os.IsNotExist(err) {
		t.Error("a question made the data dir")
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := newDir(t, "listen="+l.Addr().String())
	if _, errs, code := tryDo(t, dir, "run"); code != 1 || !strings.Contains(errs, "address already in use") {
		t.Errorf("exit %d %s", code, errs)
	}
	do(t, dir, "prices") // the data dir is free again
}

func TestDataDirInUse(t *testing.T) {
	dir := newDir(t)
	startProcess(t, dir)
	if _, errs, code := tryDo(t, dir, "run"); code != 1 || !strings.Contains(errs, "in use") {
		t.Errorf("exit %d %s", code, errs)
	}
	do(t, dir, "prices") // over RPC
}

func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
	}{
		{"", 2}, {"--help", 0}, {"run --help", 0}, {"dance", 2}, {"offer bob", 2}, {"offer bob -1 1", 2},
		{"settlement arm --delay 1s --height 5", 2}, {"job submit missing-file --buyer a", 2},
		{"compute courier list --state odd", 2},
	} {
		out, errs, code := tryDo(t, t.TempDir(), strings.Fields(c.args)...)
		if code != c.code || out+errs == "" {
			t.Errorf("node %s: exit %d\n%s%s", c.args, code, out, errs)
		}
	}
}
