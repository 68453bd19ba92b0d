package ids_test

import (
	"testing"

	"github.com/engineshed/engineshed/internal/ids"
)

func TestNewIDsAreValidAndDiffer(t *testing.T) {
	a, b := ids.New(ids.AINode), ids.New(ids.AINode)
	if a == b || !ids.Valid(ids.AINode, a) || ids.Valid(ids.ModelService, a) {
		t.Fatalf("New = %q, %q", a, b)
	}
}

func TestMalformedIDsAreRefused(t *testing.T) {
	for _, id := range []string{"", "ms", "ms-", "ms-0123456789abcdefghi", "ms-0123456789abcdefghij0", "ms-0123456789abcdefghiz", "ms-0123456789ABCDEFGHIJ", "ms-*"} {
		if ids.Valid(ids.ModelService, id) {
			t.Errorf("Valid(%q) = true", id)
		}
	}
}
