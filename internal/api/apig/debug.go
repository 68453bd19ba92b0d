package apig

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"

	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
	"github.com/engineshed/engineshed/internal/trial"
)

// DebugHttpApi asks a Model API something and shows how it goes.
func (s *Server) DebugHttpApi(ctx context.Context, req apigapi.DebugHttpApiRequestObject) (apigapi.DebugHttpApiResponseObject, error) {
	run, err := s.Trials.Start(ctx, accountOf(ctx), req.HttpApiId, toTrial(req.Body))
	if err != nil {
		return nil, err
	}
	return apigapi.DebugHttpApi200TexteventStreamResponse{Body: events(ctx, run)}, nil
}

// events are what a trial tells, as server-sent events, while it goes on. It ends with the call.
func events(ctx context.Context, run *trial.Trial) io.ReadCloser {
	reader, writer := io.Pipe()
	go func() {
		defer func() {
			if p := recover(); p != nil { // nobody above in this goroutine would take it
				_ = writer.CloseWithError(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			}
		}()
		_ = writer.CloseWithError(run.Run(ctx, func(event trial.Event) error { return writeEvent(writer, event) }))
	}()
	return reader
}

func writeEvent(w io.Writer, event trial.Event) error {
	name, data := fromEvent(event)
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, text)
	return err
}

func toTrial(body *apigapi.DebugHttpApiRequest) trial.Spec {
	return trial.Spec{
		Domain: orZero(body.Domain), Model: orZero(body.Model), Messages: orZero(body.Messages), Body: orZero(body.Body),
		Stream: body.Stream, Params: orZero(body.Params), ConsumerID: orZero(body.ConsumerId),
	}
}

// fromEvent returns the name of an event and its data.
func fromEvent(event trial.Event) (string, any) {
	switch {
	case event.Decision != nil:
		return "decision", fromDecision(*event.Decision)
	case event.Content != nil:
		return "content", apigapi.DebugContent{Text: unlessEmpty(event.Content.Text), Reasoning: unlessEmpty(event.Content.Reasoning)}
	}
	return "result", fromResult(event.Result)
}

func fromResult(result *trial.Result) apigapi.DebugResult {
	converted := apigapi.DebugResult{
		RequestId: unlessEmpty(result.RequestID), TotalMs: result.Total.Milliseconds(), FinishReason: unlessEmpty(result.FinishReason),
		Error: unlessEmpty(result.Error),
	}
	if result.Status != 0 {
		status := int32(result.Status)
		converted.Status = &status
	}
	if result.FirstContent != nil {
		first := result.FirstContent.Milliseconds()
		converted.FirstContentMs = &first
	}
	if usage := result.Usage; usage != nil {
		converted.PromptTokens, converted.CompletionTokens, converted.TotalTokens = &usage.PromptTokens, &usage.CompletionTokens, &usage.TotalTokens
	}
	return converted
}
