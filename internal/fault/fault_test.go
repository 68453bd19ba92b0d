package fault_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/engineshed/engineshed/internal/fault"
)

var errBound = fault.New(fault.Conflict, "OperationDenied.AiNodeBound", "The AI node is used by another model service.", "Name an unbound one.")

func TestADeclaredFaultIsFoundBehindACopyAndAWrap(t *testing.T) {
	err := fmt.Errorf("place replica 0: %w", errBound.Withf("The AI node %s is used by another model service.", "ai-1"))
	if !errors.Is(err, errBound) {
		t.Fatalf("errors.Is(%v) = false", err)
	}
	if errors.Is(err, fault.MissingParameter("X")) {
		t.Fatal("a fault with another code matched")
	}
	f, ok := fault.From(err)
	if !ok || f.Message != "The AI node ai-1 is used by another model service." || f.Kind != fault.Conflict {
		t.Fatalf("From = %+v, %v", f, ok)
	}
}
