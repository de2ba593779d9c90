// Package verify decides who is believed: a state machine for replicas, commit
// and reveal, and audits.
//
// The hash of a result proves nothing by itself. It can be repeated by somebody
// who saw it, and made up by somebody who hopes that nobody looks. So several
// workers do the same [Task], none of them sees what the others found, and now and
// then somebody trusted does it again. Who lied can be shown to have lied, and
// loses a bond that makes lying a loss.
//
// # One task, from start to end
//
//	seed, ticket := secret.Seed(task), secret.Ticket(task)
//	chosen, err := verify.Choose(seed, task, 3, candidates, buyer)
//	round, err := verify.New(task, chosen, policy, ticket, now)
//
// [Choose] picks distinct parties by chance, not by who asks first. Each worker
// executes the task and sends its [Commit]ment, a hash that binds it to a result
// and does not show it:
//
//	err = round.Commit("bob", commitment, signature, now)
//
// When the last worker has committed, or the deadline is over, reveals open. The
// worker shows result and salt, which the [Round] keeps and shows to nobody:
//
//	err = round.Reveal("bob", result, salt, now)
//
// When the last has revealed, or the deadline is over, the round either has a
// result or waits for an audit: where workers differ, where one remained of
// several, where one is a newcomer, where the weight of those who agree is below
// the trust that the [Policy] asks for, or where the ticket drew it ([Reason]).
//
//	if request, ok := round.AuditRequest(); ok {
//		… // execute request.Task on a trusted machine
//		err = round.Audit(found, class, now)
//	}
//
// Then there is a [Verdict]. It is Accepted, and says whose work is paid; or
// Rejected; or Indeterminate, where nobody can tell: then the money goes back and
// nobody is fined. For each worker there is a [Standing], which says what follows,
// and where the worker lied [Evidence] that a stranger can check:
//
//	verdict, over := round.Verdict()
//
// # States
//
//	Assigned ─▶ Committing ─▶ Revealing ─┬─────────────▶ Accepted, Indeterminate
//	    │                                └▶ Auditing ──▶ Accepted, Rejected, Indeterminate
//	    └──────── nobody committed in time ────────────▶ Indeterminate
//
// # Who is believed
//
// A [Record] keeps a provider's score, which grows only by work that others or an
// audit confirmed, falls on fault and decays. The score gives a [Weight], and the
// weights of those who agree are multiplied and compared with the trust that is
// asked for. Names cost nothing, and [Identities] says how few of them reach a
// trust; so newcomers are always audited, and [Bond] says what each provider has
// to stand to lose.
//
// # What it leaves to the caller
//
// The package does no I/O, starts no goroutine, reads no clock and draws nothing at
// random but a worker's [NewSalt]. Time is an argument; chance comes from a
// [Secret] whose hash the market publishes before. A Round and a Record are stored
// by their binary forms. To authenticate workers, to hold their bonds, to execute
// and to pay is the market's.
//
// docs/design/verification.md has the reasons, where the rules come from, and what
// this does not defend against.
package verify
