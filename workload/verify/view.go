package verify

import (
	"encoding/json"
	"fmt"
	"time"
)

// A View is what anybody may see of a round, at any time. Until the round is over
// it has no result, no commitment, no reason for an audit and no ticket.
type View struct {
	Task    Task         `json:"task"`
	State   State        `json:"state"`
	By      time.Time    `json:"by,omitzero"` // the deadline of the present step
	Workers []WorkerView `json:"workers"`
	Verdict *Verdict     `json:"verdict,omitempty"` // once the round is over
}

// A WorkerView is what anybody may see of a worker's part.
type WorkerView struct {
	Worker    string `json:"worker"`
	Committed bool   `json:"committed"`
	Revealed  bool   `json:"revealed"` // in time
}

// View returns what anybody may see.
func (r *Round) View() View {
	if r.state == nil {
		return View{}
	}
	v := View{Task: r.task, State: r.State(), By: r.deadline}
	for i := range r.replicas {
		rep := &r.replicas[i]
		v.Workers = append(v.Workers, WorkerView{
			Worker: rep.who.Worker, Committed: !rep.commitment.IsZero(), Revealed: rep.opened == openedTime,
		})
	}
	if verdict, ok := r.Verdict(); ok {
		v.Verdict = &verdict
	}
	return v
}

// The following have a value as receiver, lest a copy of a Round print what a
// Round does not.

// String names the task and the state.
func (r Round) String() string {
	if r.state == nil {
		return "verify.Round(zero)"
	}
	return fmt.Sprintf("verify.Round(%q %v)", r.task.ID, r.State())
}

// Format prints what String says, whatever the verb.
func (r Round) Format(f fmt.State, _ rune) { fmt.Fprint(f, r.String()) }

// MarshalJSON returns the [View].
func (r Round) MarshalJSON() ([]byte, error) { return json.Marshal(r.View()) }

// UnmarshalJSON returns [ErrText]: a [View] does not have all that a Round has.
// Store the binary form.
func (r *Round) UnmarshalJSON([]byte) error {
	return fmt.Errorf("%w: a Round is not read from JSON", ErrText)
}
