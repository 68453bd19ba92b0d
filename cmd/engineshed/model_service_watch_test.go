package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/sdk/gpdb"
)

func TestALogGoesOnWhereItWas(t *testing.T) {
	log := func(generation, offset, text string) *gpdb.GetModelServiceLogsResponse {
		return &gpdb.GetModelServiceLogsResponse{EngineGeneration: generation, LogOffset: offset, Log: text}
	}
	for name, c := range map[string]struct {
		before, now *gpdb.GetModelServiceLogsResponse
		want        string
	}{
		"nothing new":             {log("1", "6", "hello\n"), log("1", "6", "hello\n"), ""},
		"a line more":             {log("1", "6", "hello\n"), log("1", "10", "hello\nyou\n"), "you\n"},
		"more than is shown":      {log("1", "6", "hello\n"), log("1", "1000", "the end\n"), "the end\n"},
		"another engine":          {log("1", "6", "hello\n"), log("2", "9", "welcome\n"), "welcome\n"},
		"the log was cut":         {log("1", "600", "hello\n"), log("1", "3", "so\n"), "so\n"},
		"it begins only just now": {log("1", "0", ""), log("1", "3", "so\n"), "so\n"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, newInLog(c.before, c.now))
		})
	}
}

func TestOnlyNewEventsAreShownInTheirOrder(t *testing.T) {
	event := func(id string) gpdb.ModelServiceEvent { return gpdb.ModelServiceEvent{EventId: id} }
	page := []gpdb.ModelServiceEvent{event("12"), event("11"), event("9")}
	require.Equal(t, []gpdb.ModelServiceEvent{event("11"), event("12")}, newerThan(9, page))
	require.Empty(t, newerThan(12, page))
}

func TestHowFarAChangeIs(t *testing.T) {
	service := gpdb.DescribeModelServiceResponse{ReplicaCount: 2, StatusReason: "Replica 0 drains.", Replicas: []gpdb.ModelServiceReplica{
		{Status: gpdb.ReplicaDraining}, {Status: gpdb.ReplicaActive, UpToDate: true}, {Status: gpdb.ReplicaActive},
	}}
	require.Equal(t, "1 of 2 replicas are as asked for; Replica 0 drains.", changing(&service))
}
