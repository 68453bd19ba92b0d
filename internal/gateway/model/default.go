package model

// DefaultJSON puts the field model first into an object that has none, and reports whether it did. A body that names a
// model, or that another reader could read otherwise, is left as it is: nothing has to be written into it.
func DefaultJSON(body []byte, name string) (Splice, bool) {
	s, err := WriteJSON(body, name)
	// What replaces a value is shorter: the field's own name comes with an insertion only.
	if err != nil || s.Len() < int64(len(body)+len(`"model":`)+len(quote(name))) {
		return Splice{body}, false
	}
	return s, true
}
