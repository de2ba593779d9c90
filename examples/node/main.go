// Command node is a small node of a compute market, and shows how its packages
// are put together: wire.go builds them over one data dir, run.go runs and stops
// them in order.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

type commands struct {
	DataDir string `short:"d" help:"The node's folder." default:"node-data"`
	JSON    bool   `help:"Print JSON." name:"json"`

	Run  runCommand  `cmd:"" help:"Run the node. The first start writes config.toml and the tokens."`
	Init initCommand `cmd:"" help:"Make the data dir without running."`

	Compute struct {
		Courier struct {
			Send  sendCommand  `cmd:"" help:"Take in a bundle, to be forwarded later."`
			Flush flushCommand `cmd:"" help:"Forward the bundles that are pending."`
			List  listCommand  `cmd:"" help:"List the receipts of bundles."`
		} `cmd:"" help:"Carry bundles to a peer."`
	} `cmd:"" help:"Work that comes from elsewhere."`
	Settlement struct {
		Status    settlementStatusCommand    `cmd:"" help:"Show mode, balances and receipts."`
		Arm       settlementArmCommand       `cmd:"" help:"Become real after a delay or at a block height."`
		CancelArm settlementCancelArmCommand `cmd:"" help:"Take arm back."`
		DryRun    settlementDryRunCommand    `cmd:"" help:"Stop settling."`
		Height    settlementHeightCommand    `cmd:"" help:"Tell the block height."`
		Retry     settlementRetryCommand     `cmd:"" help:"Settle a receipt of the archive."`
		Failures  settlementFailuresCommand  `cmd:"" help:"List the archive."`
	} `cmd:"" help:"Whether receipts move credits."`
	Credits struct {
		Issue    issueCommand    `cmd:"" help:"Issue credits to an account."`
		Balance  balanceCommand  `cmd:"" help:"Show what an account holds."`
		Transfer transferCommand `cmd:"" help:"Move credits between accounts."`
	} `cmd:"" help:"Credits."`
	Offer offerCommand `cmd:"" help:"Offer to run slices."`
	Job   struct {
		Submit submitCommand    `cmd:"" help:"Have slices run."`
		Status jobStatusCommand `cmd:"" help:"Show what became of a job."`
	} `cmd:"" help:"Jobs."`
	Cancel cancelCommand `cmd:"" help:"Cancel an offer, or what is left of a job."`
	Prices pricesCommand `cmd:"" help:"Show the price bands and the lanes."`
}

const description = `A node of a compute market. Commands reach the running node over RPC; when none runs they work on its data dir.`

// run is the program. It returns the exit status: 0, 1 for a failure, 2 for a
// wrong command line.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c commands
	exit := -1
	parser, err := kong.New(&c, kong.Name("node"), kong.Description(description),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { exit = code }),
		kong.BindTo(ctx, (*context.Context)(nil)))
	if err != nil {
		panic(err) // the commands above are wrong
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exit >= 0 { // help was asked for
		return exit
	}
	if err != nil {
		fmt.Fprintf(stderr, "node: %v\n", err)
		return 2
	}
	err = parsed.Run(&cli{ctx: ctx, dir: c.DataDir, json: c.JSON, out: stdout, err: stderr, progress: terminal(stderr)})
	if err != nil {
		for line := range strings.Lines(strings.TrimSpace(err.Error())) {
			fmt.Fprintf(stderr, "node: %s\n", strings.TrimRight(line, "\n"))
		}
		return 1
	}
	return 0
}

// terminal is w if a person looks at it, and else discards.
func terminal(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return w
		}
	}
	return io.Discard
}

type runCommand struct {
	Database string `help:"Keep receipts, credits, settlement and courier there, with other nodes. The first start writes it into config.toml." placeholder:"postgres://…"`
}

func (r runCommand) Run(c *cli) error {
	made, err := initConfig(c.dir, nil)
	if err != nil {
		return err
	}
	cfg, err := readConfig(c.dir)
	if err != nil {
		return err
	}
	if r.Database != "" && r.Database != cfg.Database {
		if cfg, err = setDatabase(c.dir, cfg, r.Database); err != nil {
			return err
		}
	}
	log := slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: cfg.LogLevel}))
	if made {
		log.Info("wrote " + configName)
	}
	return runNode(c.ctx, c.dir, cfg, log, func(addr string) {
		fmt.Fprintf(c.out, "listening on http://%s\n", addr)
	})
}

type initCommand struct {
	Set map[string]string `help:"A setting other than its default." placeholder:"KEY=VALUE"`
}

func (i initCommand) Run(c *cli) error {
	made, err := initConfig(c.dir, i.Set)
	if err == nil && !made {
		err = errors.New("the data dir has a config.toml already")
	}
	if err != nil {
		return err
	}
	cfg, err := readConfig(c.dir)
	if err != nil {
		return err
	}
	for _, path := range []string{cfg.TokenFile, cfg.CourierTokenFile} {
		if _, err := openTokenOf(c.dir, path); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.out, "made %s\n", c.dir)
	return nil
}
