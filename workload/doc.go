// Package workload runs job slices and returns the hash that proves the work.
//
// A [Slice] is an ID, a [Kind] and an [Input]: bytes, a stream, a file or
// anything that can be read at an offset. A [Runner] picks the [Job] for the
// kind, runs it and returns its [Hash]. Which slices run at once, and in which
// order, never changes a hash.
//
//	runner, err := workload.New(nil)
//	if err != nil {
//		return err
//	}
//	proof, err := runner.Run(ctx, workload.Slice{
//		ID:    "job-7/0",
//		Kind:  workload.Transcode,
//		Input: workload.Bytes(data),
//	})
//
// # Jobs
//
// [Transcode] and [Inference] run [HashJob] until [Options] says otherwise: the
// BLAKE3-256 of the raw input is the proof. A real transcoder or a model server
// is a Job of the caller's, for these kinds or for new ones.
//
// # Cache
//
// A Runner remembers proofs by slice ID, up to a bound, and two calls at once
// for one ID compute once. A proof is returned only to a caller whose input was
// read and is the same; the same ID with another kind or another input is
// [ErrMismatch]. docs/design/workload.md has the way and its cost.
//
// # Range proofs
//
// [NewOutboard] keeps the inner hashes of a slice. With them [ProveRange] cuts a
// proof for any byte range, and [VerifyRange] checks it for someone who holds
// only the slice's hash.
package workload
