package ram_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access/ram"
)

func FuzzParse(f *testing.F) {
	f.Add(`{"Version":"1","Statement":[{"Effect":"Allow","Action":["gpdb:*"],"Resource":"*"}]}`)
	f.Add(`{"Version":"1","Statement":{"Effect":"Deny","NotAction":"ram:*","Resource":["acs:a"]}}`)
	f.Add(conditional(`{"IpAddress":{"acs:SourceIp":["10.0.0.0/8","::/0"]},"DateLessThan":{"acs:CurrentTime":"2026-01-31T08:00:00Z"}}`))
	f.Add(conditional(`{"NumericNotEquals":{"acs:ResourceTag/k":"1.5"},"StringLike":{"apig:GatewayId":"*"},"Bool":{"acs:MFAPresent":"true"}}`))
	context := ram.Context{}
	context.Set("acs:SourceIp", "10.1.2.3")
	context.Set("acs:ResourceTag/k", "1.50")
	request := ram.NewRequest("gpdb:X", []string{"*"}, context)
	f.Fuzz(func(t *testing.T, document string) {
		parsed, err := ram.Parse(document)
		if err != nil {
			require.ErrorIs(t, err, ram.ErrMalformed)
			return
		}
		require.True(t, json.Valid([]byte(document)))
		for _, s := range parsed.Statements {
			require.NotEqual(t, len(s.Actions) == 0, len(s.NotActions) == 0)
			require.NotEmpty(t, s.Resources)
			require.Contains(t, []ram.Effect{ram.Allow, ram.Deny}, s.Effect)
			holding := true
			for i := range s.Conditions {
				require.NotEmpty(t, s.Conditions[i].Values)
				holding = holding && s.Conditions[i].Holds(context)
			}
			require.Equal(t, s.MatchesAction(request) && s.MatchesResource(request) && holding, s.Matches(request))
		}
	})
}

func FuzzParseTrust(f *testing.F) {
	f.Add(trusting(trustStatement("Allow", `{"RAM":"acs:ram::1000000000000001:root"}`, "")))
	f.Add(trusting(trustStatement("Deny", `{"RAM":["acs:ram::1000000000000001:user/ann"],"Service":"a.b"}`, `,"Condition":{"Bool":{"acs:MFAPresent":"true"}}`)))
	f.Fuzz(func(t *testing.T, document string) {
		trust, err := ram.ParseTrust(document)
		if err != nil {
			require.ErrorIs(t, err, ram.ErrMalformed)
			return
		}
		require.True(t, json.Valid([]byte(document)))
		effect, place := trust.Decide("acs:ram::1000000000000001:user/ann", ram.Context{})
		require.Equal(t, effect == "", place < 0)
		if place >= 0 {
			require.Equal(t, trust.Statements[place].Effect, effect)
		}
	})
}
