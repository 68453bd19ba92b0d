package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/engineshed/engineshed/internal/gateway"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// The limits of the APIs of the wall, and how long a service pauses that keeps them.
const (
	firstContentLimit = 600 * time.Millisecond
	idleLimit         = 800 * time.Millisecond
	connectLimit      = 400 * time.Millisecond
	slowPause         = 300 * time.Millisecond
)

func usualLimits() *snapshot.Limits {
	return &snapshot.Limits{
		FirstContent: int(firstContentLimit.Milliseconds()), Idle: int(idleLimit.Milliseconds()), Connect: int(connectLimit.Milliseconds()),
	}
}

// fault is a way in which a service fails, and what comes of it.
type fault struct {
	service  string // what it does
	behave   func(*exchange)
	streamed ending
	whole    ending // where no stream is asked for; the zero value: there is no such fault
}

// ending is how a call ends that meets a fault.
type ending struct {
	seen  string // by the client, unless a fallback answers
	state string // of the usage record, likewise
	falls falls
	held  string // what is seen instead where a document is held back for a fallback that is not asked then; "": no difference
}

// falls says when a fallback is asked.
type falls string

const (
	never      falls = "no"
	always     falls = "always"
	ifAnything falls = "yes" // unless it is for answers with a status from 400 on only
)

// What clients see beside refusals, which are a status and a code.
const (
	asItCame      = "200, as it came"
	itsOwn429     = "429, as it came"
	itsOwn500     = "500, as it came"
	cutEvents     = "the whole events, then the error upstream_cut"
	idleEvents    = "the whole events, then the error upstream_idle_timeout"
	cutConnection = "a connection that is cut"
	nothing       = "nothing, until it leaves"
	endless       = "the answer, until it leaves"
	fallbacks     = "the fallback's answer"
)

// Two faults that nobody has to listen for.
const (
	refuses           = "refuses the connection"
	takesNoConnection = "does not take the connection"
)

// wall is every fault that is known, and what the client of an API with the limits above sees of it.
var wall = []fault{
	{
		refuses, nil,
		ending{"503 upstream_unreachable", "refused", ifAnything, ""},
		ending{"503 upstream_unreachable", "refused", ifAnything, ""},
	}, {
		takesNoConnection, nil,
		ending{"503 upstream_unreachable", "refused", ifAnything, ""},
		ending{"503 upstream_unreachable", "refused", ifAnything, ""},
	}, {
		"takes the request and never answers", staysSilent,
		ending{"504 first_content_timeout", "upstream_timeout", ifAnything, ""},
		ending{nothing, "client_gone", never, ""},
	}, {
		"breaks off before it answers", resets,
		ending{"502 engine_failed", "upstream_cut", ifAnything, ""},
		ending{"502 engine_failed", "upstream_cut", ifAnything, ""},
	}, {
		"does not speak HTTP", speaksSomethingElse,
		ending{"502 engine_failed", "upstream_cut", ifAnything, ""},
		ending{"502 engine_failed", "upstream_cut", ifAnything, ""},
	}, {
		"answers 429", isBusy,
		ending{itsOwn429, "complete", always, ""},
		ending{itsOwn429, "complete", always, ""},
	}, {
		"answers 500 with a page of HTML", breaksWithHTML,
		ending{itsOwn500, "complete", always, ""},
		ending{itsOwn500, "complete", always, ""},
	}, {
		"answers 500 with a page that takes its time", breaksSlowly,
		ending{itsOwn500, "complete", always, ""},
		ending{itsOwn500, "complete", always, ""},
	}, {
		"sends headers and no more", sendsHeadersOnly,
		ending{"504 first_content_timeout", "upstream_timeout", ifAnything, ""},
		ending{"504 upstream_idle_timeout", "upstream_timeout", ifAnything, ""},
	}, {
		"sends what precedes the content and no more", opens,
		ending{"504 first_content_timeout", "upstream_timeout", ifAnything, ""},
		ending{},
	}, {
		"sends comments for ever", comments,
		ending{"504 first_content_timeout", "upstream_timeout", ifAnything, ""},
		ending{},
	}, {
		"sends a line that never ends", neverEndsALine,
		ending{"504 first_content_timeout", "upstream_timeout", ifAnything, ""},
		ending{endless, "client_gone", never, nothing},
	}, {
		"sends a byte a second", trickles,
		ending{"504 first_content_timeout", "upstream_timeout", ifAnything, ""},
		ending{cutConnection, "upstream_timeout", ifAnything, "504 upstream_idle_timeout"},
	}, {
		"breaks off within the first event with content", cutsTheFirstLine,
		ending{"502 engine_failed", "upstream_cut", ifAnything, ""},
		ending{},
	}, {
		"ends the stream before any content", endsUnsaid,
		ending{"502 engine_failed", "upstream_cut", ifAnything, ""},
		ending{},
	}, {
		"breaks the encoding in chunks before any content", breaksChunksFirst,
		ending{"502 engine_failed", "upstream_cut", ifAnything, ""},
		ending{"502 engine_failed", "upstream_cut", ifAnything, ""},
	}, {
		"answers 200, and an error as the first event", failsFirst,
		ending{asItCame, "upstream_error", ifAnything, ""},
		ending{},
	}, {
		"answers 200, and an error as the first event, and ends late", failsFirstAndEndsLate,
		ending{asItCame, "upstream_error", ifAnything, ""},
		ending{},
	}, {
		"breaks off after some of the content", cutsAfterAnEvent,
		ending{cutEvents, "upstream_cut", never, ""},
		ending{cutConnection, "upstream_cut", ifAnything, "502 engine_failed"},
	}, {
		"breaks off within a later event", cutsWithinAnEvent,
		ending{cutEvents, "upstream_cut", never, ""},
		ending{},
	}, {
		"falls silent after some of the content", starts,
		ending{idleEvents, "upstream_timeout", never, ""},
		ending{cutConnection, "upstream_timeout", ifAnything, "504 upstream_idle_timeout"},
	}, {
		"breaks the encoding in chunks after some of the content", breaksChunksLater,
		ending{cutEvents, "upstream_cut", never, ""},
		ending{cutConnection, "upstream_cut", ifAnything, "502 engine_failed"},
	}, {
		"ends its HTTP message after some of the content", endsTooEarly,
		ending{cutEvents, "upstream_cut", never, ""},
		ending{asItCame, "complete", never, ""}, // nobody can tell
	}, {
		"sends an error event after some of the content", failsLater,
		ending{asItCame, "upstream_error", never, ""},
		ending{},
	}, {
		"sends an error event after some of the content and breaks off", failsLaterAndResets,
		ending{asItCame, "upstream_error", never, ""},
		ending{},
	}, {
		"breaks off in a stream whose length it has announced", cutsWhatItAnnounced,
		ending{cutEvents, "upstream_cut", never, ""},
		ending{},
	}, {
		"breaks off behind the end mark", cutsBehindTheEnd,
		ending{asItCame, "complete", never, ""},
		ending{},
	}, {
		"falls silent behind the end mark", fallsSilentBehindTheEnd,
		ending{asItCame, "complete", never, ""},
		ending{},
	}, {
		"announces how long its stream is", answersWhatItAnnounced,
		ending{asItCame, "complete", never, ""},
		ending{},
	}, {
		"answers slowly, within the limits", answersSlowly,
		ending{asItCame, "complete", never, ""},
		ending{asItCame, "complete", never, ""},
	}, {
		"has nothing to say", answersNothing,
		ending{asItCame, "complete", never, ""},
		ending{},
	},
}

// mode is the fallback of an API.
type mode struct {
	name      string
	there     bool
	codesOnly bool
}

var modes = []mode{{"no fallback", false, false}, {"fallback", true, false}, {"fallback, upstream codes only", true, true}}

// cell is one fault met by one call, at a Model API of its own.
type cell struct {
	fault
	*dialect
	stream            bool
	mode              mode
	api               snapshot.ModelAPI
	primary, fallback snapshot.AIService
	faulty, good      *faulty // faulty is nil where nothing listens

	seen string
	took time.Duration
}

func (c *cell) String() string {
	return fmt.Sprintf("%s; %s; stream: %t; %s", c.service, c.name, c.stream, c.mode.name)
}

// newCell makes the services of a cell and its API, which is served at base.
func newCell(g *rig, base string, f fault, d *dialect, stream bool, m mode) *cell {
	c := &cell{fault: f, dialect: d, stream: stream, mode: m}
	var address string
	switch f.service {
	case refuses:
		address = "http://" + refusingAddr(g.t)
	case takesNoConnection:
		address = "http://" + fullAddr(g.t)
	default:
		c.faulty = newFaulty(g.t, "primary", f.behave)
		address = c.faulty.url()
	}
	c.good = newFaulty(g.t, "fallback", answers)
	c.primary, c.fallback = g.outside(address), g.outside(c.good.url())
	c.api = apiOf(c.primary.ID, d.protocol+" POST Exact "+d.path+" json")
	c.api.BasePath, c.api.RemoveBasePath, c.api.Targets[0].Model = base, true, "m-primary"
	c.api.Limits = usualLimits()
	if m.there {
		c.api.Fallback = &snapshot.Fallback{Targets: []snapshot.Target{{ServiceID: c.fallback.ID}}, UpstreamCodesOnly: m.codesOnly}
	}
	return c
}

// expected is how the call should end, in the words of the protocol.
func (c *cell) expected() (e ending, service snapshot.AIService) {
	e = c.streamed
	if !c.stream {
		e = c.whole
	}
	if c.mode.there && (e.falls == always || e.falls == ifAnything && !c.mode.codesOnly) {
		return ending{seen: fallbacks, state: "complete"}, c.fallback
	}
	if c.mode.there && e.held != "" {
		e.seen = e.held
	}
	if c.dialect == anthropicDialect {
		e.seen = inAnthropic.Replace(e.seen)
	}
	return e, c.primary
}

// inAnthropic turns codes into what Anthropic has instead.
var inAnthropic = strings.NewReplacer(
	"503 upstream_unreachable", "503 overloaded_error", "502 engine_failed", "502 api_error",
	"504 first_content_timeout", "504 timeout_error", "504 upstream_idle_timeout", "504 timeout_error",
	"the error upstream_cut", "the error api_error", "the error upstream_idle_timeout", "the error timeout_error",
)

// leaves reports whether the client is to leave because it would wait for ever.
func (c *cell) leaves() bool {
	e, _ := c.expected()
	return e.seen == nothing || e.seen == endless
}

// call calls, and notes what the client sees.
func (c *cell) call(g *rig) error {
	patience := deadline / 2
	if c.leaves() {
		patience = time.Second
	}
	ctx, leave := context.WithTimeout(g.t.Context(), patience)
	defer leave()
	body := fmt.Sprintf(`{"model":"asked","stream":%t,"messages":[]}`, c.stream)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.at(c.api.BasePath+c.path), strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	began := time.Now()
	var got answer
	resp, err := client.Do(r)
	if err == nil {
		var text []byte
		text, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		got = answer{resp.StatusCode, resp.Header, string(text)}
	}
	c.took = time.Since(began)
	c.seen = c.inWords(got, err)
	return nil
}

// inWords puts what the client sees into the words of the wall.
func (c *cell) inWords(got answer, err error) string {
	var sent string
	if c.faulty != nil {
		sent = c.faulty.answered()
	}
	left := errors.Is(err, context.DeadlineExceeded)
	switch {
	case left && got.status == 0:
		return nothing
	case left && strings.HasPrefix(sent, got.body) && len(got.body) > 0:
		return endless
	case left:
		return "no end"
	case err != nil && strings.HasPrefix(sent, got.body):
		return cutConnection
	case err != nil:
		return "a connection that is cut after something else: " + got.body
	case got.body == c.good.answered() && got.status == http.StatusOK:
		return fallbacks
	case got.body == sent && got.header.Get("X-Request-Id") != "":
		return c.ownWords(got)
	case got.status == http.StatusOK && c.stream:
		return c.nameEvents(got, sent)
	}
	return c.nameRefusal(got)
}

// ownWords is the primary service's answer, if all of it has come.
func (c *cell) ownWords(got answer) string {
	kind := map[int]string{http.StatusTooManyRequests: "application/json", http.StatusInternalServerError: "text/html"}[got.status]
	switch {
	case kind == "" && c.stream:
		kind = "text/event-stream; charset=utf-8"
	case kind == "":
		kind = "application/json"
	}
	if got.header.Get("Content-Type") != kind || got.status == http.StatusTooManyRequests && got.header.Get("Retry-After") != "7" {
		return fmt.Sprint("headers that are not the service's: ", got.header)
	}
	return fmt.Sprint(got.status, ", as it came")
}

// nameEvents reads a stream that is not as it was sent: it must have the whole events, and one of an error.
func (c *cell) nameEvents(got answer, sent string) string {
	var whole string
	if end := strings.LastIndex(sent, "\n\n"); end >= 0 {
		whole = sent[:end+2]
	}
	last, found := strings.CutPrefix(got.body, whole)
	if !found {
		return "other events: " + got.body
	}
	code, err := errorEvent(c.dialect, last)
	if err != nil {
		return fmt.Sprintf("the whole events, then %q: %v", last, err)
	}
	return "the whole events, then " + code
}

// errorEvent reads one event of an error and nothing else.
func errorEvent(d *dialect, text string) (code string, err error) {
	data, found := strings.CutSuffix(text, "\n\n")
	if d == anthropicDialect {
		var other bool
		data, other = strings.CutPrefix(data, "event: error\n")
		found = found && other
	}
	data, other := strings.CutPrefix(data, "data: ")
	if !found || !other || strings.Contains(data, "\n") {
		return "", errors.New("it is not one error event")
	}
	code, err = errorCode(d, data)
	return "the error " + code, err
}

// errorCode is the code of an error in OpenAI's shape, the type of one in Anthropic's.
func errorCode(d *dialect, text string) (string, error) {
	var body struct {
		Type  string
		Error struct{ Message, Type, Code string }
	}
	err := json.Unmarshal([]byte(text), &body)
	switch {
	case err != nil:
		return "", err
	case body.Error.Message == "" || body.Error.Type == "":
		return "", errors.New("it has no message or no type")
	case d == anthropicDialect && body.Type != "error":
		return "", errors.New("it does not say that it is an error")
	case d == anthropicDialect:
		return body.Error.Type, nil
	}
	return body.Error.Code, nil
}

// nameRefusal is the status and the code of an answer of the gateway itself.
func (c *cell) nameRefusal(got answer) string {
	code, err := errorCode(c.dialect, got.body)
	if err != nil || got.header.Get("Content-Type") != "application/json" || got.header.Get("X-Request-Id") == "" {
		return fmt.Sprintf("%d %v %q: %v", got.status, got.header, got.body, err)
	}
	return fmt.Sprint(got.status, " ", code)
}

// newWall makes every cell, all of them served.
func newWall(g *rig) (cells []*cell) {
	var things []any
	for _, f := range wall {
		for _, d := range []*dialect{openAIDialect, anthropicDialect} {
			for _, stream := range []bool{true, false} {
				if !stream && f.whole == (ending{}) {
					continue
				}
				for _, m := range modes {
					c := newCell(g, fmt.Sprint("/", len(cells)), f, d, stream, m)
					cells, things = append(cells, c), append(things, c.api, c.primary, c.fallback)
				}
			}
		}
	}
	g.serveAll(things...)
	return cells
}

// TestWhatAClientSeesOfEveryFault calls once into every cell of the wall. With -v it prints them all.
//
// Not parallel: it counts goroutines.
func TestWhatAClientSeesOfEveryFault(t *testing.T) {
	g := newRig(t)
	cells := newWall(g)
	baseline := goleak.IgnoreCurrent()
	var calls errgroup.Group
	calls.SetLimit(48)
	for _, c := range cells {
		calls.Go(func() error { return c.call(g) })
	}
	require.NoError(t, calls.Wait())
	t.Log(wallTable(cells))

	require.Eventually(t, func() bool { return len(owing(cells)) == 0 }, time.Second, time.Millisecond,
		"a second after its client has its answer, or has left, no service is waited for")
	g.await(func() bool { return sum(g.metrics(), `engineshed_gateway_api_in_flight\{.*\} (\d+)`) == 0 })
	for _, c := range cells {
		c.close()
	}
	client.CloseIdleConnections()
	goleak.VerifyNone(t, baseline)

	recorded := g.usage(len(cells)) // what is recorded has been counted
	mistakes := append(mistakesSeen(cells), mistakesAsked(cells)...)
	mistakes = append(mistakes, mistakesCounted(cells, g.metrics())...)
	mistakes = append(mistakes, mistakesRecorded(cells, recorded)...)
	require.Empty(t, strings.Join(mistakes, "\n"))
}

func (c *cell) close() {
	for _, f := range []*faulty{c.faulty, c.good} {
		if f != nil {
			f.kill()
		}
	}
}

// owing are the cells of which a service still owes an answer.
func owing(cells []*cell) (owing []*cell) {
	for _, c := range cells {
		if c.faulty != nil && c.faulty.owes.Load() > 0 || c.good.owes.Load() > 0 {
			owing = append(owing, c)
		}
	}
	return owing
}

// mistakesSeen compares what clients saw with the wall. What is late must have been waited for, and not much longer.
func mistakesSeen(cells []*cell) (mistakes []string) {
	for _, c := range cells {
		want, _ := c.expected()
		if c.seen != want.seen {
			mistakes = append(mistakes, fmt.Sprintf("%v: the client sees %s, and not %s", c, c.seen, want.seen))
		}
		if limit := c.waits(); c.took < limit || c.took > limit+2*time.Second {
			mistakes = append(mistakes, fmt.Sprintf("%v: it took %v", c, c.took))
		}
	}
	return mistakes
}

// waits is how long the gateway must have waited before it gave up.
func (c *cell) waits() time.Duration {
	e := c.streamed
	if !c.stream {
		e = c.whole
	}
	switch {
	case c.service == takesNoConnection:
		return connectLimit
	case strings.HasSuffix(e.seen, "first_content_timeout"):
		return firstContentLimit
	case strings.HasSuffix(e.seen, "idle_timeout"):
		return idleLimit
	}
	return 0
}

// mistakesAsked wants each service asked once, and the fallback only where it answers: with the client's own model.
func mistakesAsked(cells []*cell) (mistakes []string) {
	for _, c := range cells {
		want := [][]string{{"m-primary"}, nil}
		if c.faulty == nil {
			want[0] = nil
		}
		if _, service := c.expected(); service.ID == c.fallback.ID {
			want[1] = []string{"asked"}
		}
		if got := [][]string{c.faulty.models(), c.good.models()}; !slices.EqualFunc(want, got, slices.Equal) {
			mistakes = append(mistakes, fmt.Sprintf("%v: the services were asked for %v, and not %v", c, got, want))
		}
	}
	return mistakes
}

// models are those that the requests so far have named.
func (f *faulty) models() (names []string) {
	if f == nil {
		return nil
	}
	for _, body := range f.received() {
		var request struct{ Model string }
		_ = json.Unmarshal([]byte(body), &request) // what cannot be read names none, which nobody expects
		names = append(names, request.Model)
	}
	return names
}

var outcomeLine = regexp.MustCompile(`(?m)^engineshed_gateway_api_requests_total\{api="([^"]+)",outcome="(\w+)"\} (\d+)$`)

// mistakesCounted wants exactly one outcome for each call.
func mistakesCounted(cells []*cell, metrics string) (mistakes []string) {
	counted := map[string][]string{}
	for _, line := range outcomeLine.FindAllStringSubmatch(metrics, -1) {
		counted[line[1]] = append(counted[line[1]], line[3]+" "+line[2])
	}
	for _, c := range cells {
		if got := counted[c.api.ID]; !slices.Equal(got, []string{"1 " + c.outcome()}) {
			mistakes = append(mistakes, fmt.Sprintf("%v: counted as %v, and not as 1 %s", c, got, c.outcome()))
		}
	}
	return mistakes
}

// outcome is how a call should be counted.
func (c *cell) outcome() string {
	e, _ := c.expected()
	switch {
	case c.leaves():
		return "gone"
	case e.seen == cutConnection || strings.HasPrefix(e.seen, "the whole events"):
		return "cut"
	case e.seen == fallbacks:
		return "2xx"
	}
	return e.seen[:1] + "xx"
}

// mistakesRecorded wants one usage record for each call, about the service that was asked last.
func mistakesRecorded(cells []*cell, rows []usageRow) (mistakes []string) {
	recorded := map[string][]usageRow{}
	for _, row := range rows {
		recorded[row.HTTPAPIID] = append(recorded[row.HTTPAPIID], row)
	}
	for _, c := range cells {
		want, service := c.expected()
		if len(recorded[c.api.ID]) != 1 {
			mistakes = append(mistakes, fmt.Sprintf("%v: it has %d records", c, len(recorded[c.api.ID])))
			continue
		}
		row := recorded[c.api.ID][0]
		if row.EndState != want.state || row.ServiceID != service.ID || row.ModelAsked != "asked" {
			mistakes = append(mistakes, fmt.Sprintf("%v: recorded as %s of service %s (%s asked), and not as %s of %s",
				c, row.EndState, c.nameOf(row.ServiceID), row.ModelAsked, want.state, c.nameOf(service.ID)))
		}
		mistakes = append(mistakes, c.mistakesDelivered(row)...)
	}
	return mistakes
}

func (c *cell) nameOf(service string) string {
	switch service {
	case c.primary.ID:
		return "primary"
	case c.fallback.ID:
		return "fallback"
	}
	return service
}

// mistakesDelivered compares a record with what the client got of the content.
func (c *cell) mistakesDelivered(row usageRow) (mistakes []string) {
	e, service := c.expected()
	from, model := c.faulty, "primary"
	if service.ID == c.fallback.ID {
		from, model = c.good, "fallback"
	}
	delivered := e.seen == fallbacks || e.seen == asItCame || strings.HasPrefix(e.seen, "the whole events")
	if !delivered || !strings.Contains(from.answered(), model) {
		return nil
	}
	if row.Model != model {
		mistakes = append(mistakes, fmt.Sprintf("%v: the record has the model %q, and not %q", c, row.Model, model))
	}
	begins := c.stream && strings.Contains(from.answered(), "Hel")
	if row.Streamed != c.stream || (row.FirstContentMs != nil) != begins {
		mistakes = append(mistakes, fmt.Sprintf("%v: recorded as streamed: %t, with a first content: %t", c, row.Streamed, row.FirstContentMs != nil))
	}
	if c.stream && c.input > 0 && (row.InputTokens == nil || *row.InputTokens != c.input) {
		mistakes = append(mistakes, fmt.Sprintf("%v: the tokens that were told are not recorded", c))
	}
	return mistakes
}

// wallTable shows what clients saw: a line for each fault, protocol and kind of answer, a column for each mode.
func wallTable(cells []*cell) string {
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "\nthe service\tprotocol\tstream")
	for _, m := range modes {
		fmt.Fprint(w, "\t", m.name)
	}
	for i, c := range cells {
		if i%len(modes) == 0 {
			fmt.Fprintf(w, "\n%s\t%s\t%t", c.service, c.name, c.stream)
		}
		fmt.Fprintf(w, "\t%s (%v)", c.seen, c.took.Round(10*time.Millisecond))
	}
	_ = w.Flush()
	return out.String()
}

var (
	inCode     = regexp.MustCompile(`[a-z]+_[a-z_]+`)
	inBrackets = regexp.MustCompile(`\((complete|refused)\)`)
)

func TestTheDocumentSaysWhatAClientSeesOfEveryFault(t *testing.T) {
	t.Parallel()
	rows := []string{"| the service | of a stream the client sees | fallback | of an answer in one piece | fallback |", "|---|---|---|---|---|"}
	for _, f := range wall {
		row := "| " + f.service
		for _, e := range []ending{f.streamed, f.whole} {
			if e == (ending{}) {
				row += " | |"
				continue
			}
			row += fmt.Sprintf(" | %s (%s) | %s", e.seen, e.state, e.falls)
		}
		rows = append(rows, inCode.ReplaceAllStringFunc(inBrackets.ReplaceAllString(row, "(`$1`)"), func(code string) string { return "`" + code + "`" })+" |")
	}
	gateway.Keep(t, "failure-modes.md", "faults", rows...)
}
