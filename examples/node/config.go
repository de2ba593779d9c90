package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/computemarket/computemarket/internal/durable"
	"github.com/computemarket/computemarket/receipt"
)

// config is node-data/config.toml. The file that a first start writes, comments
// and all, is config.toml beside this one; it holds the defaults too.
type config struct {
	Listen    string     `toml:"listen"`
	TokenFile string     `toml:"token_file"`
	Account   string     `toml:"account"`
	LogLevel  slog.Level `toml:"log_level"`

	Database      string `toml:"database"`
	DatabaseLease int64  `toml:"database_lease"`

	PriceBoardPath         string `toml:"price_board_path"`
	PriceBoardWindow       int    `toml:"price_board_window"`
	PriceBoardSaveInterval int64  `toml:"price_board_save_interval"`

	ComfortThreshold uint64  `toml:"comfort_threshold_p90"`
	ComfortQuantile  float64 `toml:"comfort_quantile"`
	CapacityShards   uint64  `toml:"capacity_shards"`

	JobMaxSlices int    `toml:"job_max_slices"`
	JobTimeLimit int64  `toml:"job_time_limit"`
	JobWorkers   int    `toml:"job_workers"`
	InboxPath    string `toml:"inbox_path"`
	BookCapacity int    `toml:"book_capacity"`

	SettlementPolicy   string `toml:"settlement_policy"`
	SettlementInterval int64  `toml:"settlement_interval"`

	RPCMaxBody   int64 `toml:"rpc_max_body"`
	RPCTimeLimit int64 `toml:"rpc_time_limit"`

	CourierPeer          string `toml:"courier_peer"`
	CourierPeerTokenFile string `toml:"courier_peer_token_file"`
	CourierTokenFile     string `toml:"courier_token_file"`
	CourierBundlesPath   string `toml:"courier_bundles_path"`
	CourierReward        uint64 `toml:"courier_reward"`
	CourierMaxBundle     int64  `toml:"courier_max_bundle"`
	CourierAttempts      int    `toml:"courier_attempts"`
	CourierBackoffMS     int64  `toml:"courier_backoff_ms"`
	CourierFlushLimit    int64  `toml:"courier_flush_limit"`
}

//go:embed config.toml
var defaultConfig []byte

const configName = "config.toml"

// initConfig writes the configuration of a new data dir, the defaults with the
// settings given. It leaves one that is there alone and reports false.
func initConfig(dir string, settings map[string]string) (bool, error) {
	path := filepath.Join(dir, configName)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	text := defaultConfig
	for key, value := range settings {
		line := keyLine(key)
		if !line.Match(text) {
			return false, fmt.Errorf("no setting is called %q", key)
		}
		text = line.ReplaceAllLiteral(text, []byte(key+" = "+tomlValue(value)))
	}
	if _, err := parseConfig(path, text); err != nil {
		return false, err
	}
	if err := durable.MkdirAll(durable.OS{}, dir, 0o700); err != nil {
		return false, err
	}
	return true, writeFile(path, text)
}

func readConfig(dir string) (*config, error) {
	path := filepath.Join(dir, configName)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseConfig(path, text)
}

// setDatabase writes the database into the configuration of a data dir that has
// kept nothing yet: what a node has, no flag takes away.
func setDatabase(dir string, c *config, url string) (*config, error) {
	path := filepath.Join(dir, configName)
	if c.Database != "" {
		return nil, fmt.Errorf("%s names another database", path)
	}
	if _, err := os.Stat(filepath.Join(dir, pebbleName)); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, fmt.Errorf("%s has data of its own: take another data dir", dir))
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	setting := []byte("database = " + tomlValue(url))
	if line := keyLine("database"); line.Match(text) {
		text = line.ReplaceAllLiteral(text, setting)
	} else {
		text = slices.Concat(text, []byte("\n"), setting, []byte("\n"))
	}
	if c, err = parseConfig(path, text); err != nil {
		return nil, err
	}
	return c, writeFile(path, text)
}

// parseConfig returns the settings in text over the defaults. Its errors begin
// with the place, path:line.
func parseConfig(path string, text []byte) (*config, error) {
	var c config
	if err := toml.Unmarshal(defaultConfig, &c); err != nil {
		return nil, err
	}
	at := func(line int, format string, args ...any) error {
		return fmt.Errorf("%s:%d: %s", path, line, fmt.Sprintf(format, args...))
	}
	err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&c)
	if unknown, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		var errs []error
		for _, e := range unknown.Errors {
			line, _ := e.Position()
			errs = append(errs, at(line, "unknown key %s", strings.Join(e.Key(), ".")))
		}
		return nil, errors.Join(errs...)
	}
	if bad, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, _ := bad.Position()
		return nil, at(line, "%s", strings.TrimPrefix(bad.Error(), "toml: "))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, check := range c.checks() {
		if !check.ok {
			line := 1 // a key that is not in the file has its default, which is good
			if where := keyLine(check.key).FindIndex(text); where != nil {
				line += bytes.Count(text[:where[0]], []byte("\n"))
			}
			return nil, at(line, "%s: %s", check.key, check.want)
		}
	}
	return &c, nil
}

type check struct {
	key  string
	ok   bool
	want string
}

// checks are what the types do not say. What a package checks itself, such as
// the largest window of a price board, is left to it.
func (c *config) checks() []check {
	_, port, err := net.SplitHostPort(c.Listen)
	_, portErr := strconv.ParseUint(port, 10, 16)
	const seconds = "must be a number of seconds from 1 to 86400"
	duration := func(s int64) bool { return 1 <= s && s <= 86400 }
	return []check{
		{"listen", err == nil && portErr == nil, "must be an address and a port, such as 127.0.0.1:7788"},
		{"listen", c.loopback() || c.TokenFile != "" && c.CourierTokenFile != "",
			"an address beyond this machine needs token_file and courier_token_file"},
		{"account", receipt.ValidateID(c.Account) == nil, "must be 1 to 256 bytes of UTF-8"},
		{"database", c.Database == "" || strings.HasPrefix(c.Database, "postgres://"), "must be empty or begin with postgres://"},
		{"database_lease", duration(c.DatabaseLease) && c.DatabaseLease >= 4*c.SettlementInterval,
			"must be a number of seconds from 1 to 86400, and at least four times settlement_interval"},
		{"price_board_path", c.PriceBoardPath != "", "must not be empty"},
		{"price_board_window", 1 <= c.PriceBoardWindow && c.PriceBoardWindow <= 1e6, "must be 1 to 1000000"},
		{"price_board_save_interval", duration(c.PriceBoardSaveInterval), seconds},
		{"comfort_quantile", 0 < c.ComfortQuantile && c.ComfortQuantile < 1, "must be between 0 and 1"},
		{"capacity_shards", 1 <= c.CapacityShards && c.CapacityShards <= 1<<20, "must be 1 to 1048576"},
		{"job_max_slices", 1 <= c.JobMaxSlices && c.JobMaxSlices <= 1000, "must be 1 to 1000"},
		{"job_time_limit", 1 <= c.JobTimeLimit && c.JobTimeLimit <= 21600, "must be a number of seconds from 1 to 21600"},
		{"job_workers", 0 <= c.JobWorkers && c.JobWorkers <= 1024, "must be 0 to 1024"},
		{"inbox_path", c.InboxPath != "", "must not be empty"},
		{"book_capacity", 1 <= c.BookCapacity && c.BookCapacity <= 1<<23, "must be 1 to 8388608"},
		{"settlement_policy", c.SettlementPolicy == "revert" || c.SettlementPolicy == "quarantine",
			`must be "revert" or "quarantine"`},
		{"settlement_interval", duration(c.SettlementInterval), seconds},
		{"rpc_max_body", 1<<10 <= c.RPCMaxBody && c.RPCMaxBody <= 1<<30, "must be 1024 to 1073741824 bytes"},
		{"rpc_time_limit", duration(c.RPCTimeLimit), seconds},
		{"courier_bundles_path", c.CourierBundlesPath != "", "must not be empty"},
		{"courier_reward", c.CourierReward <= 1e9, "must be at most 1000000000"},
		{"courier_max_bundle", 1 <= c.CourierMaxBundle && c.CourierMaxBundle <= 1<<40, "must be 1 to 1099511627776 bytes"},
		{"courier_attempts", 1 <= c.CourierAttempts && c.CourierAttempts <= 1000, "must be 1 to 1000"},
		{"courier_backoff_ms", 1 <= c.CourierBackoffMS && c.CourierBackoffMS <= 10000, "must be 1 to 10000 milliseconds"},
		{"courier_flush_limit", duration(c.CourierFlushLimit), seconds},
	}
}

// loopback reports whether only this machine can reach the listener.
func (c *config) loopback() bool {
	host, _, _ := net.SplitHostPort(c.Listen)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// resolve returns a path of the configuration.
func resolve(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func keyLine(key string) *regexp.Regexp {
	return regexp.MustCompile(`(?m)^[ \t]*` + regexp.QuoteMeta(key) + `[ \t]*=.*$`)
}

// tomlValue is a number as it stands, and anything else in quotes.
func tomlValue(s string) string {
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return s
	}
	return strconv.Quote(s)
}
