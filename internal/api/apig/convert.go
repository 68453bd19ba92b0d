package apig

import (
	"time"

	"github.com/engineshed/engineshed/internal/instance"
)

const defaultPageSize = 10

func toPage(number, size *int32) instance.Page {
	page := instance.Page{Number: 1, Size: defaultPageSize}
	if number != nil {
		page.Number = int(*number)
	}
	if size != nil {
		page.Size = int(*size)
	}
	return page
}

func toInt(n *int32) *int {
	if n == nil {
		return nil
	}
	value := int(*n)
	return &value
}

func fromTime(t time.Time) int64 { return t.UnixMilli() }

func orZero[T any](value *T) T {
	if value == nil {
		var zero T
		return zero
	}
	return *value
}

// orEmpty makes an absent list [] in the answer, never null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func mapped[From, To any](list []From, convert func(From) To) []To {
	converted := make([]To, len(list))
	for i, item := range list {
		converted[i] = convert(item)
	}
	return converted
}

// optional keeps an absent list apart from an empty one.
func optional[From, To any](list *[]From, convert func(From) To) []To {
	if list == nil {
		return nil
	}
	return mapped(*list, convert)
}
