// Package callback runs code that belongs to whoever imports this library: a
// Ledger, a Store, a job, an observer. Whatever that code does, the call into it
// ends with an error: a panic, a runtime.Goexit and an error value that cannot
// be asked anything are failures of that one call, and of nobody beside it.
package callback

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// A Panic is the failure of a callback that panicked.
type Panic struct {
	Name  string // of the callback, such as "Ledger.Post"
	Value any    // what was passed to panic
	Stack []byte // of the goroutine that panicked
}

// Error names the callback and the panic's value; Stack is for the log.
func (p *Panic) Error() string { return fmt.Sprintf("panic in %s: %v", p.Name, p.Value) }

// Unwrap returns the panic's value when that was an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return Usable(err)
}

// ErrGoexit is wrapped by the failure of a callback that called runtime.Goexit,
// as testing.T.FailNow does.
var ErrGoexit = errors.New("runtime.Goexit was called")

// Guard calls f on the caller's goroutine and returns what it returned, as
// [Usable] leaves it, or a [Panic]. A Goexit ends the goroutine, as always:
// deferred functions run, Guard does not return. Use [Run] where somebody else
// would wait for the answer.
func Guard(name string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &Panic{Name: name, Value: v, Stack: debug.Stack()}
		}
	}()
	return Usable(f())
}

// Run is Guard on a goroutine that ends before Run returns, so that a Goexit is
// an error too: one that wraps [ErrGoexit].
func Run(name string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		err := fmt.Errorf("%w in %s", ErrGoexit, name)
		defer func() { done <- err }()
		err = Guard(name, f)
	}()
	return <-done
}

// Usable returns err, unless asking it for its text or its causes panics, as it
// does with a nil pointer of many error types. Then it returns an error that
// names the type.
func Usable(err error) (usable error) {
	if err == nil {
		return nil
	}
	defer func() {
		if recover() != nil {
			usable = fmt.Errorf("an unusable error of type %T", err)
		}
	}()
	_ = err.Error()
	errors.Is(err, ErrGoexit) // asks all there is to ask
	return err
}
