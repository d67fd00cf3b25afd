package failover

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// wrong is a history for which there is no right order.
type wrong struct {
	model porcupine.Model
	info  porcupine.LinearizationInfo
	text  string
}

// Error has the time line of the part where it fails.
func (w *wrong) Error() string { return w.text }

// check searches for an order of a history's questions in which all answers are right. If there is none, the error is a *wrong.
func check(model porcupine.Model, ops []porcupine.Operation) error {
	for _, part := range model.Partition(ops) {
		if result, info := porcupine.CheckOperationsVerbose(model, part, checkTime); result != porcupine.Ok {
			return &wrong{model, info, fmt.Sprintf("not linearizable (%s): %s", result, timeline(model, part, info))}
		}
	}
	return nil
}

// around is how many operations before and after the fault a time line has.
const around = 12

// timeline shows what was asked around the first question that has no place in the longest right order.
func timeline(model porcupine.Model, part []porcupine.Operation, info porcupine.LinearizationInfo) string {
	var longest []porcupine.Operation
	for _, orders := range info.PartialLinearizationsOperations() {
		for _, o := range orders {
			if len(o) > len(longest) {
				longest = o
			}
		}
	}
	slices.SortFunc(part, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	odd := slices.IndexFunc(part, func(op porcupine.Operation) bool { return !slices.Contains(longest, op) })
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d operations are in a right order\n", len(longest), len(part))
	for i := max(0, odd-around); i < min(len(part), odd+around); i++ {
		op := part[i]
		fmt.Fprintf(&b, "%s %10.3f to %10.3f ms: %s\n", map[bool]string{true: "->", false: "  "}[i == odd],
			float64(op.Call)/1e6, float64(op.Return)/1e6, model.DescribeOperation(op.Input, op.Output))
	}
	return b.String()
}
