// Package admission decides who may start work: consumer traffic first,
// industrial jobs when there is room.
package admission
