package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// writeJSON is what a gateway does with a body whose model is written over.
func writeJSON(body []byte, name string) (Splice, error) {
	r, err := ReadJSON(body)
	if err == nil {
		err = r.CheckModel()
	}
	if err != nil {
		return Splice{}, err
	}
	return r.Splice(&name, false), nil
}

func text(s Splice) string { return string(slices.Concat(s[:]...)) }

func TestModelIsWrittenAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{
		{`{"model":"a"}`, `{"model":"new"}`},
		{" {\n \"b\" : 1.0e5,\t\"model\" :  \"a\\\"}\" , \"c\":{\"model\":\"x\"} }\r\n", " {\n \"b\" : 1.0e5,\t\"model\" :  \"new\" , \"c\":{\"model\":\"x\"} }\r\n"},
		{`{"model":null,"z":[]}`, `{"model":"new","z":[]}`},
		{`{"model":{"a":[1,{"b":"]}"}]},"z":true}`, `{"model":"new","z":true}`},
		{`{"messages":[{"content":"{\"model\":\"x\"}\\"}],"model":"a","stream":true}`, `{"messages":[{"content":"{\"model\":\"x\"}\\"}],"model":"new","stream":true}`},
		{`{"mod\u0065l":"a"}`, `{"mod\u0065l":"new"}`},
		{`{}`, `{"model":"new"}`},
		{`{ "a":1 }`, `{"model":"new", "a":1 }`},
	} {
		s, err := writeJSON([]byte(c[0]), "new")
		require.NoError(t, err, c[0])
		require.Equal(t, c[1], text(s))
	}
	s, err := writeJSON([]byte(`{"model":"a"}`), "a\"b<ü")
	require.NoError(t, err)
	require.Equal(t, `{"model":"a\"b<ü"}`, text(s))
}

func TestBodiesThatOthersCouldReadOtherwiseAreRefused(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]error{
		``: errNotObject, `[]`: errNotObject, `"model"`: errNotObject, "\ufeff{}": errNotObject,
		`{`: errBroken, `{"model"}`: errBroken, `{"model":}`: errBroken, `{"model":"a"`: errBroken, `{"model":"a",}`: errBroken,
		`{"model":"a"}x`: errBroken, `{"model":"a"} {}`: errBroken, `{'model':'a'}`: errBroken, `{"a":nil,"model":"a"}`: errBroken,
		`{"a":[}],"model":"a"}`: errBroken, `{"a":"x`: errBroken, `{"a":"x\`: errBroken, `{"a":01}`: errBroken, `{,}`: errBroken, `{"\u12":1}`: errBroken,
		`{"model":"a","model":"b"}`: errTwice, `{"model":"a","mod\u0065l":"b"}`: errTwice, `{"model":"a","Model":"b"}`: errTwice, `{"MODEL":"b"}`: errTwice,
		`{"a":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}`: errDeep,
	} {
		_, err := writeJSON([]byte(body), "new")
		require.ErrorIs(t, err, want, body)
	}
}

func TestEverythingButTheModelStays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var before, after []string
		space := rapid.SampledFrom([]string{"", " ", "\n\t", "\r\n  "})
		gap := func() string { return space.Draw(t, "space") }
		value := func(v any) string {
			b, err := json.Marshal(v)
			require.NoError(t, err)
			return string(b)
		}
		written := false
		for i := range rapid.IntRange(0, 6).Draw(t, "before") {
			before = append(before, fmt.Sprintf("%s\"k%d\"%s:%s%s%s", gap(), i, gap(), gap(), value(anyValue(t, 3)), gap()))
		}
		head, tail := strings.Join(before, ","), ""
		if rapid.Bool().Draw(t, "named") {
			written = true
			if head != "" {
				head += ","
			}
			head += gap() + `"model"` + gap() + ":" + gap()
			for i := range rapid.IntRange(0, 6).Draw(t, "after") {
				after = append(after, fmt.Sprintf(",%s\"l%d\":%s", gap(), i, value(anyValue(t, 3))))
			}
			tail = gap() + strings.Join(after, "") + gap()
		}
		name := rapid.String().Draw(t, "name")
		body := gap() + "{" + head
		if written {
			body += value(anyValue(t, 2))
		}
		s, err := writeJSON([]byte(body+tail+"}"), name)
		require.NoError(t, err, body)
		got := text(s)
		if written {
			require.True(t, strings.HasSuffix(got, tail+"}"))
			rest, ok := strings.CutPrefix(strings.TrimSuffix(got, tail+"}"), got[:strings.Index(got, "{")+1]+head)
			require.True(t, ok, got)
			require.Equal(t, string(quote(name)), rest)
		}
		var read struct{ Model string }
		require.NoError(t, json.Unmarshal([]byte(got), &read), got)
		require.Equal(t, strings.ToValidUTF8(name, "\ufffd"), read.Model)
	})
}

func anyValue(t *rapid.T, depth int) any {
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0:
		return rapid.Float64Range(-1e9, 1e9).Draw(t, "number")
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2, 3:
		return rapid.StringMatching(`["\\\\{}\[\]:,a-z\n]*`).Draw(t, "string")
	}
	if depth == 0 {
		return nil
	}
	object := map[string]any{}
	for range rapid.IntRange(0, 3).Draw(t, "fields") {
		object[rapid.SampledFrom([]string{"model", "a", `"`}).Draw(t, "field")] = anyValue(t, depth-1)
	}
	return []any{object, anyValue(t, depth-1)}
}

// What is found in a document that is valid is what a whole parse finds.
func FuzzReadJSON(f *testing.F) {
	for _, body := range []string{
		`{"model":"a","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"x"}]}`,
		`{"messages":[{"role":"user","content":"\"model\":\"b\" \\\" {[ \\"}],"model":"a"}`,
		`{"model":"a","model":"b"}`, `{"Model":"a"}`, `{"mod\u0065l":"a","MODEL":1}`, `{"stream":false,"stre\u0061m":true}`,
		`{"model":"\ud83d\ude82","m\ud800":{},"\udc00":"\ud800"}`, `{"model":{"model":"inner"},"x":[{"model":"inner"}]}`,
		"\ufeff{}", " \t\r\n{ \"model\" : null , \"a\" : -1.5e+3 } \n", "{\"model\":\"\xff\"}", `{"":"","\\":"\\\\"}`,
		`{"a":` + strings.Repeat("[", 256) + strings.Repeat("]", 256) + `,"model":"a"}`,
		`{"a":` + strings.Repeat(`{"a":`, 300) + "0" + strings.Repeat("}", 300) + `,"model":"a"}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ReadJSON(body)
		if !json.Valid(body) {
			return // its service may know better, and no reader has to agree
		}
		if len(bytes.TrimSpace(body)) == 0 || bytes.TrimLeft(body, " \t\r\n")[0] != '{' {
			require.ErrorIs(t, err, errNotObject)
			return
		}
		want := parseWhole(t, body)
		switch {
		case errors.Is(err, errDeep):
			require.Greater(t, want.depth, deepest)
		case want.streams > 1 || want.options > 1:
			require.ErrorIs(t, err, errAgain)
		default:
			require.NoError(t, err)
			require.Equal(t, want.models > 0, r.NamesModel())
			require.Equal(t, want.models > 1 || want.otherwise, r.CheckModel() != nil)
			if r.CheckModel() == nil {
				require.Equal(t, want.model, r.Model)
			}
			require.Equal(t, want.stream, r.Stream)
			require.Equal(t, string(body), text(r.Splice(nil, false)))
		}
	})
}

// parsed is what a decoder of tokens finds at the top of an object.
type parsed struct {
	models, streams, options, depth int
	otherwise                       bool // the model is named in other letters
	model                           string
	stream                          bool
}

func parseWhole(t *testing.T, body []byte) (p parsed) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(body))
	_, err := decoder.Token()
	require.NoError(t, err)
	for decoder.More() {
		key, err := decoder.Token()
		require.NoError(t, err)
		var raw json.RawMessage
		require.NoError(t, decoder.Decode(&raw))
		p.depth = max(p.depth, depthOf(raw))
		switch name := key.(string); {
		case name == "stream":
			p.streams++
			p.stream = string(raw) == "true"
		case name == "stream_options":
			p.options++
		case strings.EqualFold(name, "model"):
			p.models++
			p.otherwise = p.otherwise || name != "model"
			p.model = ""
			_ = json.Unmarshal(raw, &p.model) // what is no string names no model
		}
	}
	return p
}

// depthOf is how far a value is nested.
func depthOf(raw []byte) (deepest int) {
	depth := 0
	for decoder := json.NewDecoder(bytes.NewReader(raw)); ; {
		token, err := decoder.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
			deepest = max(deepest, depth)
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
}

// Whatever is written is what a whole parse would have written.
func FuzzWriteJSON(f *testing.F) {
	f.Add(`{"model":"a","b":[{"c":"\\"}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		s, err := writeJSON([]byte(body), "new") // FuzzReadJSON knows when it must succeed
		var fields map[string]json.RawMessage
		if err != nil || json.Unmarshal([]byte(body), &fields) != nil {
			return
		}
		var after map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(text(s)), &after), body)
		fields["model"] = json.RawMessage(`"new"`)
		require.Equal(t, fields, after)
	})
}

func form(t *testing.T, parts ...string) (body []byte, boundary string) {
	t.Helper()
	var out bytes.Buffer
	w := multipart.NewWriter(&out)
	for _, p := range parts {
		name, content, _ := strings.Cut(p, "=")
		create := w.CreateFormField
		if name == "file" {
			create = func(name string) (io.Writer, error) { return w.CreateFormFile(name, "file.bin") }
		}
		part, err := create(name)
		require.NoError(t, err)
		_, err = io.WriteString(part, content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return out.Bytes(), w.Boundary()
}

func TestModelOfAFormIsWrittenAndNothingElse(t *testing.T) {
	t.Parallel()
	const boundary = "b0undary"
	part := func(name, content string) string {
		return "--" + boundary + "\r\nContent-Disposition: form-data; name=" + name + "\r\n\r\n" + content + "\r\n"
	}
	const end = "--" + boundary + "--\r\n"
	file := "--" + boundary + "\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n\x00\r\n--b0\xff\r\n\r\n"
	for body, want := range map[string]string{
		part("model", "old") + part("n", "1") + end:      part("model", "new") + part("n", "1") + end,
		file + "\r\n" + part(`"model"`, "") + end:        file + "\r\n" + part(`"model"`, "new") + end,
		part("prompt", "name=model\r\n\r\n") + end:       part(`"model"`, "new") + part("prompt", "name=model\r\n\r\n") + end,
		part("model", "a\r\nb") + strings.TrimSpace(end): part("model", "new") + strings.TrimSpace(end),
	} {
		s, err := WriteForm([]byte(body), boundary, "new")
		require.NoError(t, err, body)
		require.Equal(t, want, text(s))
	}
	for _, body := range []string{
		"", "--", "--" + boundary, end + "x", "x" + part("model", "a") + end, part("model", "a"), part("model", "a") + part("model", "b") + end,
		part("model", "a") + part("Model", "b") + end, part("a", "b\n--"+boundary+"\r\n") + end, part("a", "b") + end + part("model", "b") + end,
		"--" + boundary + "\r\nContent-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=model\r\n\r\nx\r\n" + end,
		"--" + boundary + "\r\nX: y\r\n\r\nx\r\n" + end, "--" + boundary + "\r\nContent-Disposition: form-data;\r\n name=model\r\n\r\nx\r\n" + end,
		"--" + boundary + "\r\nContent-Disposition: form-data; name=model\r\n\r\n" + end,
	} {
		_, err := WriteForm([]byte(body), boundary, "new")
		require.Error(t, err, "%q", body)
	}
	_, err := WriteForm([]byte(part("model", "a")+end), "", "new")
	require.Error(t, err)
}

func TestFormReadsAsBeforeButForItsModel(t *testing.T) {
	t.Parallel()
	body, boundary := form(t, "prompt=a\r\n--b", "model=old", "file=\x00\xff\r\n", "n=1")
	s, err := WriteForm(body, boundary, "a new one")
	require.NoError(t, err)
	read := multipart.NewReader(strings.NewReader(text(s)), boundary)
	var got []string
	for {
		part, err := read.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		content, err := io.ReadAll(part)
		require.NoError(t, err)
		got = append(got, part.FormName()+"="+string(content))
	}
	require.Equal(t, []string{"prompt=a\r\n--b", "model=a new one", "file=\x00\xff\r\n", "n=1"}, got)
}

// Prompts as they are: prose and code with escapes, other scripts, an image.
func BenchmarkWriteJSON(b *testing.B) {
	for name, text := range map[string]string{
		"prose": `The depot keeps two engines in steam, and whoever is on shift fills both before six o'clock in the morning.\n`,
		"code":  `\tif err := json.Unmarshal([]byte(\"{\\\"a\\\":1}\"), &v); err != nil {\n\t\treturn err\n\t}\n`,
		"CJK":   `機関車が二両あります。朝六時までに石炭と水を積みます。\n`,
		"image": "iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4//8/w38GIAXDIBKE0DHxgljNBAAO9TXL0Y4OHwAAAABJRU5ErkJggg==",
	} {
		for _, size := range []int{64 << 10, 1 << 20} {
			const message = 2 << 10
			var body strings.Builder
			body.WriteString(`{"messages":[`)
			for body.Len() < size {
				n := message
				if name == "image" {
					n = size
				}
				body.WriteString(`{"role":"user","content":"` + strings.Repeat(text, n/len(text)) + `"},`)
			}
			body.WriteString(`{"role":"user","content":""}],"stream":true,"model":"a"}`)
			whole := []byte(body.String())
			b.Run(fmt.Sprint(name, "/", size>>10, "KB"), func(b *testing.B) {
				b.SetBytes(int64(len(whole)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := writeJSON(whole, "new"); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
