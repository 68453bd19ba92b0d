package sdk

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/engineshed/engineshed/sdk/gpdb"
)

// Error is a refusal of the API. Find it with errors.As and branch on Code.
type Error struct {
	StatusCode         int
	Code               string
	Message            string
	Recommend          string // what to do next; "" of the gateway
	RequestID          string
	AccessDeniedDetail *gpdb.AccessDeniedDetail // of a 403 by policy
}

func (e *Error) Error() string {
	if e.RequestID == "" { // the gateway's errors have none
		return fmt.Sprintf("%s (%s)", e.Message, e.Code)
	}
	return fmt.Sprintf("%s (%s, request %s)", e.Message, e.Code, e.RequestID)
}

func toError(status int, body []byte) error {
	var said gpdb.Error
	if err := json.Unmarshal(body, &said); err != nil || said.Code == "" {
		// Something between here and the API answered.
		return &Error{StatusCode: status, Code: "UnexpectedAnswer", Message: fmt.Sprintf("The endpoint answered %d %s, not as the API does.", status, http.StatusText(status))}
	}
	return &Error{
		StatusCode: status, Code: said.Code, Message: said.Message, Recommend: said.Recommend, RequestID: said.RequestId,
		AccessDeniedDetail: said.AccessDeniedDetail,
	}
}
