package ram_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access/ram"
)

func trustStatement(effect, principal, more string) string {
	return `{"Effect":"` + effect + `","Action":"sts:AssumeRole","Principal":` + principal + more + `}`
}

func trusting(statements string) string { return `{"Version":"1","Statement":[` + statements + `]}` }

func TestATrustPolicyNamesWhoMayAssumeTheRole(t *testing.T) {
	t.Parallel()
	const one, two = "acs:ram::1000000000000001", "acs:ram::1000000000000002"
	for _, c := range []struct {
		principal string
		trusted   []string
		not       []string
	}{
		{`{"RAM":"` + one + `:root"}`, []string{one + ":root", one + ":user/ann", one + ":role/ops/s"}, []string{two + ":root", two + ":user/ann"}},
		{
			`{"RAM":["` + one + `:user/ann","` + two + `:user/bob"]}`,
			[]string{one + ":user/ann", two + ":user/bob"},
			[]string{one + ":user/bob", two + ":user/ann", one + ":root", one + ":user/anna", one + ":user/Ann", one + ":role/ann/s"},
		},
		{`{"RAM":"` + one + `:role/ops"}`, []string{one + ":role/ops/s", one + ":role/ops/t"}, []string{one + ":role/ops2/s", one + ":role/op/s", one + ":user/ops"}},
		{`{"RAM":"` + one + `:role/ops/s"}`, []string{one + ":role/ops/s"}, []string{one + ":role/ops/t", one + ":role/ops/s2"}},
		{`{"Service":"ecs.aliyuncs.com"}`, nil, []string{one + ":root", "ecs.aliyuncs.com"}},
		{`{"Federated":"` + one + `:saml-provider/idp"}`, nil, []string{one + ":root", one + ":saml-provider/idp"}},
		{`{"Service":"ecs.aliyuncs.com","RAM":"` + one + `:user/ann"}`, []string{one + ":user/ann"}, []string{one + ":user/bob"}},
	} {
		trust, err := ram.ParseTrust(trusting(trustStatement("Allow", c.principal, "")))
		require.NoError(t, err, c.principal)
		for _, arn := range c.trusted {
			effect, place := trust.Decide(arn, nil)
			require.Equal(t, ram.Allow, effect, "%s %s", c.principal, arn)
			require.Zero(t, place)
		}
		for _, arn := range c.not {
			effect, place := trust.Decide(arn, nil)
			require.Empty(t, effect, "%s %s", c.principal, arn)
			require.Equal(t, -1, place)
		}
	}
}

func TestATrustPolicyHasConditionsAndDenials(t *testing.T) {
	t.Parallel()
	const ann = "acs:ram::1000000000000001:user/ann"
	allow := trustStatement("Allow", `{"RAM":"acs:ram::1000000000000001:root"}`, `,"Condition":{"StringEquals":{"sts:ExternalId":"x"}}`)
	deny := trustStatement("Deny", `{"RAM":"`+ann+`"}`, `,"Condition":{"Bool":{"acs:SecureTransport":"false"}}`)
	for _, statements := range []string{allow + "," + deny, deny + "," + allow} {
		trust, err := ram.ParseTrust(trusting(statements))
		require.NoError(t, err)
		for _, c := range []struct {
			id, secure string
			want       ram.Effect
		}{{"x", "true", ram.Allow}, {"y", "true", ""}, {"x", "false", ram.Deny}} {
			context := ram.Context{}
			context.Set("sts:ExternalId", c.id)
			context.Set("acs:SecureTransport", c.secure)
			effect, _ := trust.Decide(ann, context)
			require.Equal(t, c.want, effect, "%+v", c)
		}
	}
}

func TestMalformedTrustPoliciesAreRefusedWithThePlace(t *testing.T) {
	t.Parallel()
	const root = `{"RAM":"acs:ram::1000000000000001:root"}`
	for document, message := range map[string]string{
		``:             "unfinished",
		trusting(``):   "at Statement: at least one",
		trusting(`{}`): "at Statement[0]: Effect is required",
		trusting(`{"Effect":"Allow","Action":"sts:AssumeRole"}`):                                              "at Statement[0]: Principal is required",
		trusting(`{"Effect":"Allow","Principal":` + root + `}`):                                               "at Statement[0]: Action is required",
		trusting(`{"Effect":"Allow","Action":"sts:*","Principal":` + root + `}`):                              `at Statement[0].Action: "sts:*" is not sts:AssumeRole`,
		trusting(`{"Effect":"Allow","NotAction":"sts:AssumeRole","Principal":` + root + `}`):                  "at Statement[0].NotAction: there is no such member",
		trusting(trustStatement("Allow", root, `,"Resource":"*"`)):                                            "at Statement[0].Resource: a trust policy has none",
		trusting(trustStatement("Allow", `"*"`, "")):                                                          "at Statement[0].Principal: it must be an object",
		trusting(trustStatement("Allow", `{}`, "")):                                                           "Principal is required",
		trusting(trustStatement("Allow", `{"AWS":"x"}`, "")):                                                  "at Statement[0].Principal.AWS: principals are RAM, Service or Federated",
		trusting(trustStatement("Allow", `{"RAM":"*"}`, "")):                                                  `at Statement[0].Principal.RAM: "*" is not acs:ram::ACCOUNT:root`,
		trusting(trustStatement("Allow", `{"RAM":["acs:ram::1000000000000001:root","acs:ram::*:root"]}`, "")): "at Statement[0].Principal.RAM[1]",
		trusting(trustStatement("Allow", `{"RAM":"acs:ram::1000000000000001:user/*"}`, "")):                   "is not acs:ram",
		trusting(trustStatement("Allow", `{"Service":"*"}`, "")):                                              "is not the name of a service",
		trusting(trustStatement("Allow", root, `,"Condition":{"Unknown":{}}`)):                                "at Statement[0].Condition.Unknown",
		trusting(trustStatement("Allow", root, `,"Effect":"Deny"`)):                                           "at Statement[0].Effect: it is there twice",
	} {
		_, err := ram.ParseTrust(document)
		require.ErrorIs(t, err, ram.ErrMalformed, document)
		require.ErrorContains(t, err, message, document)
	}
}
