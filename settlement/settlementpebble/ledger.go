package settlementpebble

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/computemarket/computemarket/internal/bloom"
	"github.com/computemarket/computemarket/internal/group"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/pebbledb"
)

// LedgerOptions of [NewLedger]. The zero value and nil are ready to use.
type LedgerOptions struct {
	// Issuer names the issuing account. Defaults to "issuer". It is fixed when
	// the ledger is made; another name later is settlement.ErrSchema.
	Issuer string
	// Logger hears of damage. Defaults to discarding.
	Logger *slog.Logger
	// CheckLater leaves the check of what is stored to the caller, who runs
	// Ledger.Check in a goroutine: opening a ledger of many millions of
	// transfers then takes no longer than opening a small one, and posting is
	// slower until it is done. Defaults to checking before NewLedger returns.
	CheckLater bool
}

// Ledger is the default settlement.Ledger. It is safe for concurrent use.
// [NewLedger] makes it.
type Ledger struct {
	db     *kv.DB
	fence  *fence
	issuer string
	log    *slog.Logger
	posts  *group.Group[*post]
	closed atomic.Bool

	stored atomic.Pointer[bloom.Filter] // the ids found on opening; nil until checked

	committing sync.Mutex // guards work
	work       work       // of the commit in progress, and what outlives it
}

var _ settlement.Ledger = (*Ledger)(nil)

// NewLedger opens the ledger in a database that the caller closes, after the
// ledger. A second open ledger in it is settlement.ErrLocked: each would trust
// its own balances. opts may be nil. Other errors: settlement.ErrOptions (no
// database), settlement.ErrAccount (the issuer's name), settlement.ErrSchema,
// settlement.ErrCorrupt, settlement.ErrPoisoned, settlement.ErrClosed. A damaged
// account or transfer is no error: see [Ledger.Check].
func NewLedger(database *pebbledb.DB, opts *LedgerOptions) (*Ledger, error) {
	var o LedgerOptions
	if opts != nil {
		o = *opts
	}
	if o.Issuer == "" {
		o.Issuer = "issuer"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := (&settlement.Transfer{From: o.Issuer, To: o.Issuer + "."}).Validate(); err != nil {
		return nil, fmt.Errorf("the issuer's name: %w", err)
	}
	db := (*kv.DB)(database)
	l := &Ledger{db: db, fence: fenceOf(db), issuer: o.Issuer, log: o.Logger}
	l.work.reset()
	l.posts = group.New(maxGroup, (*post).weight, l.commit)
	if err := db.ClaimFrom(ledgerNamespace, 1, ledgerSchema, l.upgrade); err != nil {
		return nil, err
	}
	err := l.ensureIssuer()
	if err == nil && !o.CheckLater {
		err = l.Check(context.Background())
	}
	if err != nil {
		db.Release(ledgerNamespace)
		return nil, err
	}
	return l, nil
}

// Close lets go of the database, in which another ledger may be opened then. It
// is idempotent, and leaves the database open. Iterations in progress end with
// settlement.ErrClosed; it may be called from within one.
func (l *Ledger) Close() error {
	if l.db != nil && !l.closed.Swap(true) {
		l.committing.Lock() // the commit in progress ends first
		defer l.committing.Unlock()
		l.db.Release(ledgerNamespace)
	}
	return nil
}

// usable returns why the ledger may not be used.
func (l *Ledger) usable(ctx context.Context) error {
	if l.db == nil {
		return fmt.Errorf("%w: a zero Ledger; make it with NewLedger", settlement.ErrOptions)
	}
	if err := l.going(ctx); err != nil {
		return err
	}
	return l.db.Err()
}

// going returns why an iteration ends before its end.
func (l *Ledger) going(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if l.closed.Load() {
		return settlement.ErrClosed
	}
	return nil
}

// upgrade seals the issuer's name, which schema 1 keeps bare.
func (l *Ledger) upgrade(_ uint16, b *pebble.Batch) error {
	found, err := l.db.Get(issuerKey, func(v []byte) error { return l.isIssuer(string(v)) })
	if found && err == nil {
		err = b.Set(issuerKey, kv.Sealed(issuerKey, []byte(l.issuer)), nil)
	}
	return err
}

func (l *Ledger) isIssuer(name string) error {
	if name != l.issuer {
		return fmt.Errorf("%w: its issuer is %q, not %q", settlement.ErrSchema, name, l.issuer)
	}
	return nil
}

func (l *Ledger) ensureIssuer() error {
	found, err := l.db.Get(issuerKey, func(v []byte) error {
		name, err := kv.Unseal(issuerKey, v)
		if err != nil {
			return err
		}
		return l.isIssuer(string(name))
	})
	if found || err != nil {
		return err
	}
	b := l.db.Batch()
	b.Set(issuerKey, kv.Sealed(issuerKey, []byte(l.issuer)), nil)
	return l.db.Commit(b)
}

// Issuer implements settlement.Ledger.
func (l *Ledger) Issuer() string { return l.issuer }

// Balance implements settlement.Ledger.
func (l *Ledger) Balance(ctx context.Context, account string) (uint64, error) {
	if err := l.usable(ctx); err != nil {
		return 0, err
	}
	return l.balance(account)
}

func (l *Ledger) balance(account string) (balance uint64, err error) {
	key := appendAccountKey(nil, account)
	_, err = l.db.Get(key, func(v []byte) error {
		balance, err = decodeBalance(key, v)
		return err
	})
	return balance, err
}

func decodeBalance(key, sealed []byte) (uint64, error) {
	v, err := kv.Unseal(key, sealed)
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("%w: key %q", settlement.ErrCorrupt, key)
	}
	return binary.BigEndian.Uint64(v), nil
}

// Transfer returns the transfer with the id; ok is false when none was applied.
// Errors as of Balance.
func (l *Ledger) Transfer(ctx context.Context, id settlement.ID) (t settlement.Transfer, ok bool, err error) {
	if err := l.usable(ctx); err != nil {
		return t, false, err
	}
	return l.transfer(&id)
}

func (l *Ledger) transfer(id *settlement.ID) (t settlement.Transfer, ok bool, err error) {
	key := appendTransferKey(nil, id)
	ok, err = l.db.Get(key, func(v []byte) error {
		t, err = decodeTransfer(key, v)
		return err
	})
	return t, ok, err
}

// Accounts implements settlement.Ledger.
func (l *Ledger) Accounts(ctx context.Context) iter.Seq2[settlement.Account, error] {
	return func(yield func(settlement.Account, error) bool) {
		if err := l.usable(ctx); err != nil {
			yield(settlement.Account{}, err)
			return
		}
		for p, err := range l.db.Scan(ledgerBounds(spaceAccount)) {
			if err == nil {
				err = l.going(ctx)
			}
			var a settlement.Account
			if err == nil {
				a.Name = string(p.Key[2:])
				a.Balance, err = decodeBalance(p.Key, p.Value)
			}
			if err != nil {
				yield(settlement.Account{}, err)
				return
			}
			if a.Name != l.issuer && !yield(a, nil) {
				return
			}
		}
	}
}

// Check reads all that is stored and logs what is damaged. A damaged account
// takes part in no transfer any more, and a damaged transfer blocks its ID; both
// answer settlement.ErrCorrupt. When Check returns nil, posting new transfers no
// longer needs to look for them on disk.
//
// NewLedger calls it, unless LedgerOptions.CheckLater says otherwise; then the
// caller does, while the ledger is in use. Possible errors:
// settlement.ErrCorrupt (more than single entries is damaged, or the balances do
// not add up to what is outstanding), settlement.ErrPoisoned,
// settlement.ErrClosed, that of ctx.
func (l *Ledger) Check(ctx context.Context) error {
	if err := l.usable(ctx); err != nil {
		return err
	}
	if err := l.checkBalances(ctx); err != nil {
		return err
	}
	filter := new(bloom.Filter)
	for p, err := range l.db.Scan(ledgerBounds(spaceTransfer)) {
		if err == nil {
			err = l.going(ctx)
		}
		if err != nil {
			return err
		}
		if len(p.Key) == 2+len(settlement.ID{}) {
			filter.Add((*[32]byte)(p.Key[2:]))
		}
		if _, err := decodeTransfer(p.Key, p.Value); err != nil {
			l.log.Error("damaged transfer", "err", err)
		}
	}
	l.stored.Store(filter)
	return nil
}

// checkBalances adds up all accounts in one snapshot.
func (l *Ledger) checkBalances(ctx context.Context) error {
	var sum, outstanding uint64
	damaged, over := false, false
	for p, err := range l.db.Scan(ledgerBounds(spaceAccount)) {
		if err == nil {
			err = l.going(ctx)
		}
		if err != nil {
			return err
		}
		balance, err := decodeBalance(p.Key, p.Value)
		switch {
		case err != nil:
			damaged = true
			l.log.Error("damaged account", "err", err)
		case string(p.Key[2:]) == l.issuer:
			outstanding = balance
		default:
			over = over || balance > math.MaxUint64-sum
			sum += balance
		}
	}
	if over {
		return fmt.Errorf("%w: the balances add up to more than 64 bits", settlement.ErrCorrupt)
	}
	if !damaged && sum != outstanding {
		return fmt.Errorf("%w: the balances add up to %d, %d are outstanding", settlement.ErrCorrupt, sum, outstanding)
	}
	return nil
}
