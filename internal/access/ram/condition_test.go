package ram_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access/ram"
)

// conditional is a document with one statement about everything that has these conditions.
func conditional(conditions string) string {
	return `{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":` + conditions + `}]}`
}

// holds reports whether the conditions hold of a request that says these things about keys: KEY=VALUE.
func holds(t *testing.T, conditions string, says ...string) bool {
	t.Helper()
	parsed, err := ram.Parse(conditional(conditions))
	require.NoError(t, err, conditions)
	context := ram.Context{}
	for _, fact := range says {
		key, value, _ := strings.Cut(fact, "=")
		context.Set(key, value)
	}
	return parsed.Statements[0].Matches(ram.NewRequest("gpdb:X", []string{"*"}, context))
}

func TestEveryOperatorCompares(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		operator, value string
		fits, differs   []string
	}{
		{"StringEquals", "Search", []string{"Search"}, []string{"search", "Search ", ""}},
		{"StringEquals", "", []string{""}, []string{" "}},
		{"StringEquals", "a*", []string{"a*"}, []string{"ab"}},
		{"StringEqualsIgnoreCase", "SearcH", []string{"search", "SEARCH"}, []string{"searc"}},
		{"StringLike", "s*-?", []string{"s-1", "search-x", "s--"}, []string{"S-1", "s-", "s-1x", "xs-1"}},
		{"StringLike", "*", []string{"", "a"}, nil},
		{"StringLike", "${x}", []string{"${x}"}, []string{"x"}},
		{"NumericEquals", "10", []string{"10", "10.0", "+10", "010"}, []string{"11", "1e1", "ten", "", " 10", "10.000000000000000000000000001"}},
		{"NumericEquals", "0.1", []string{"0.10"}, []string{"0.1000000000000000055511151231257827"}},
		{"NumericLessThan", "9007199254740993", []string{"9007199254740992", "-1"}, []string{"9007199254740993", "x"}},
		{"NumericLessThanEquals", "-1.5", []string{"-1.5", "-2"}, []string{"-1.4", "1.5", ""}},
		{"NumericGreaterThan", "5", []string{"5.1", "100"}, []string{"5", "4", "x"}},
		{"NumericGreaterThanEquals", "5", []string{"5", "6"}, []string{"4.999", "x"}},
		{
			"DateEquals", "2026-01-31T08:00:00Z",
			[]string{"2026-01-31T08:00:00Z", "2026-01-31T16:00:00+08:00", "2026-01-31T08:00Z", "2026-01-31T08:00:00.0Z"},
			[]string{"2026-01-31T08:00:01Z", "2026-01-31T08:00:00+08:00", "2026-01-31", "x"},
		},
		{"DateLessThan", "2026-01-31T08:00:00+08:00", []string{"2026-01-30T23:59:59Z"}, []string{"2026-01-31T00:00:00Z", "x"}},
		{"DateLessThanEquals", "2026-01-31T00:00:00Z", []string{"2026-01-31T00:00:00Z", "2025-12-31T00:00:00Z"}, []string{"2026-01-31T00:00:01Z"}},
		{"DateGreaterThan", "2026-01-31T00:00:00Z", []string{"2026-01-31T00:00:01Z"}, []string{"2026-01-31T00:00:00Z", ""}},
		{"DateGreaterThanEquals", "2026-01-31T00:00:00Z", []string{"2026-01-31T00:00:00Z"}, []string{"2026-01-30T23:59:59Z"}},
		{"Bool", "true", []string{"true"}, []string{"false", "True", "1", ""}},
		{"Bool", "false", []string{"false"}, []string{"true", ""}},
		{"IpAddress", "203.0.113.7", []string{"203.0.113.7", "::ffff:203.0.113.7"}, []string{"203.0.113.8", "203.0.113.0/24", "x", ""}},
		{"IpAddress", "203.0.113.0/24", []string{"203.0.113.0", "203.0.113.255", "203.0.113.9/32"}, []string{"203.0.112.255", "203.0.113.0/25"}},
		{"IpAddress", "203.0.113.9/24", []string{"203.0.113.1"}, []string{"203.0.114.9"}},
		{"IpAddress", "0.0.0.0/0", []string{"1.2.3.4"}, []string{"2001:db8::1"}},
		{"IpAddress", "2001:db8::/32", []string{"2001:db8:1::1"}, []string{"2001:db9::1", "1.2.3.4"}},
		{"IpAddress", "::ffff:203.0.113.0/120", []string{"203.0.113.77"}, []string{"203.0.112.1"}},
		{"IpAddress", "::/0", []string{"2001:db8::1"}, []string{"203.0.113.7"}},
	} {
		negated := ""
		for positive, not := range map[string]string{
			"StringEquals": "StringNotEquals", "StringEqualsIgnoreCase": "StringNotEqualsIgnoreCase", "StringLike": "StringNotLike",
			"NumericEquals": "NumericNotEquals", "DateEquals": "DateNotEquals", "IpAddress": "NotIpAddress",
		} {
			if c.operator == positive {
				negated = not
			}
		}
		for _, got := range slices.Concat(c.fits, c.differs) {
			want := slices.Contains(c.fits, got)
			condition := fmt.Sprintf(`{%q:{"acs:ResourceTag/k":%q}}`, c.operator, c.value)
			require.Equal(t, want, holds(t, condition, "acs:ResourceTag/k="+got), "%s %q", condition, got)
			if negated != "" {
				condition = fmt.Sprintf(`{%q:{"acs:ResourceTag/k":%q}}`, negated, c.value)
				require.Equal(t, !want, holds(t, condition, "acs:ResourceTag/k="+got), "%s %q", condition, got)
			}
		}
	}
}

func TestValuesAreAlternativesAndKeysAndOperatorsAreNot(t *testing.T) {
	t.Parallel()
	either := `{"StringEquals":{"acs:ResourceTag/k":["a","b"]}}`
	require.True(t, holds(t, either, "acs:ResourceTag/k=b"))
	require.False(t, holds(t, either, "acs:ResourceTag/k=c"))

	neither := `{"StringNotEquals":{"acs:ResourceTag/k":["a","b"]}}`
	require.False(t, holds(t, neither, "acs:ResourceTag/k=b"), "it must differ from all")
	require.True(t, holds(t, neither, "acs:ResourceTag/k=c"))

	keys := `{"StringEquals":{"acs:ResourceTag/k":"a","acs:ResourceTag/l":"b"}}`
	require.True(t, holds(t, keys, "acs:ResourceTag/k=a", "acs:ResourceTag/l=b"))
	require.False(t, holds(t, keys, "acs:ResourceTag/k=a", "acs:ResourceTag/l=c"))

	operators := `{"StringLike":{"acs:ResourceTag/k":"a*"},"StringNotLike":{"acs:ResourceTag/k":"*z"}}`
	require.True(t, holds(t, operators, "acs:ResourceTag/k=ab"))
	require.False(t, holds(t, operators, "acs:ResourceTag/k=az"))
	require.True(t, holds(t, `{}`), "no conditions are none")
}

func TestAMissingKeyIsLikeNothingAndUnlikeEverything(t *testing.T) {
	t.Parallel()
	for operator, want := range map[string]bool{
		"StringEquals": false, "StringEqualsIgnoreCase": false, "StringLike": false,
		"StringNotEquals": true, "StringNotEqualsIgnoreCase": true, "StringNotLike": true,
		"NumericEquals": false, "NumericLessThan": false, "NumericLessThanEquals": false,
		"NumericGreaterThan": false, "NumericGreaterThanEquals": false, "NumericNotEquals": true,
		"DateEquals": false, "DateLessThan": false, "DateLessThanEquals": false,
		"DateGreaterThan": false, "DateGreaterThanEquals": false, "DateNotEquals": true,
		"Bool": false, "IpAddress": false, "NotIpAddress": true,
	} {
		value := map[byte]string{'S': "*", 'N': "1", 'D': "2026-01-01T00:00:00Z", 'B': "true", 'I': "::/0"}[operator[0]]
		if operator == "NotIpAddress" {
			value = "::/0"
		}
		require.Equal(t, want, holds(t, fmt.Sprintf(`{%q:{"acs:RequestTag/k":%q}}`, operator, value)), operator)
	}
}

func TestKeysAreComparedWithoutCaseAndTagsWithIt(t *testing.T) {
	t.Parallel()
	require.True(t, holds(t, `{"StringEquals":{"ACS:PrincipalArn":"x"}}`, "acs:PrincipalARN=x"))
	require.True(t, holds(t, `{"StringEquals":{"apig:gatewayid":"gw-1"}}`, "apig:GatewayId=gw-1"))
	require.True(t, holds(t, `{"StringEquals":{"acs:resourcetag/Team":"x"}}`, "acs:ResourceTag/Team=x"))
	require.False(t, holds(t, `{"StringEquals":{"acs:ResourceTag/team":"x"}}`, "acs:ResourceTag/Team=x"))
	require.False(t, holds(t, `{"StringEquals":{"acs:ResourceTag/k":"x"}}`, "acs:RequestTag/k=x"))
}

func TestMalformedConditionsAreRefusedWithThePlace(t *testing.T) {
	t.Parallel()
	const at = "at Statement[0].Condition"
	for conditions, message := range map[string]string{
		`[]`:                                                                 at + ": it must be an object",
		`"x"`:                                                                at + ": it must be an object",
		`{"stringEquals":{"acs:SourceIp":"x"}}`:                              at + ".stringEquals: there is no such operator; these are: Bool, DateEquals,",
		`{"StringEqualsIfExists":{}}`:                                        at + ".StringEqualsIfExists: there is no such operator",
		`{"ForAnyValue:StringEquals":{}}`:                                    "there is no such operator",
		`{"Null":{"acs:SourceIp":"true"}}`:                                   at + ".Null: there is no such operator",
		`{"StringEquals":{}}`:                                                at + ".StringEquals: it names no key",
		`{"StringEquals":"x"}`:                                               at + ".StringEquals: it must be an object",
		`{"StringEquals":{"k":"x"}}`:                                         at + `.StringEquals.k: "k" is not PRODUCT:KEY`,
		`{"StringEquals":{"a b:k":"x"}}`:                                     "is not PRODUCT:KEY",
		`{"StringEquals":{"acs:SorceIp":"x"}}`:                               at + ".StringEquals.acs:SorceIp: there is no such common key; these are: acs:CurrentTime",
		`{"StringEquals":{"acs:ResourceTag":"x"}}`:                           "there is no such common key",
		`{"StringEquals":{"acs:ResourceTag/":"x"}}`:                          "is not PRODUCT:KEY",
		`{"StringEquals":{"a:k":[]}}`:                                        at + ".StringEquals.a:k: it is empty",
		`{"StringEquals":{"a:k":["x",["y"]]}}`:                               at + ".StringEquals.a:k[1]: it must be a string",
		`{"Bool":{"acs:SecureTransport":true}}`:                              at + ".Bool.acs:SecureTransport: it must be a string",
		`{"Bool":{"acs:SecureTransport":"yes"}}`:                             at + `.Bool.acs:SecureTransport: "yes" is not a truth value: true or false`,
		`{"NumericEquals":{"a:k":5}}`:                                        "it must be a string",
		`{"NumericEquals":{"a:k":"1e9"}}`:                                    `"1e9" is not a number`,
		`{"NumericEquals":{"a:k":["1","1/3"]}}`:                              at + `.NumericEquals.a:k[1]: "1/3" is not a number`,
		`{"DateEquals":{"acs:CurrentTime":"2026-01-31"}}`:                    "is not a date of ISO 8601",
		`{"DateEquals":{"acs:CurrentTime":"2026-02-30T00:00:00Z"}}`:          "is not a date of ISO 8601",
		`{"DateEquals":{"acs:CurrentTime":"2026-01-31T00:00:00"}}`:           "is not a date of ISO 8601",
		`{"DateEquals":{"acs:CurrentTime":"2026-01-31T0:00:00Z"}}`:           "is not a date of ISO 8601",
		`{"IpAddress":{"acs:SourceIp":"203.0.113.0/33"}}`:                    `"203.0.113.0/33" is not an IP address or CIDR block`,
		`{"IpAddress":{"acs:SourceIp":"203.0.113"}}`:                         "is not an IP address or CIDR block",
		`{"IpAddress":{"acs:SourceIp":"010.0.0.1"}}`:                         "is not an IP address or CIDR block",
		`{"IpAddress":{"acs:SourceIp":"fe80::1%eth0"}}`:                      "is not an IP address or CIDR block",
		`{"IpAddress":{"acs:SourceIp":"::ffff:203.0.113.0/24"}}`:             "is not an IP address or CIDR block",
		`{"NotIpAddress":{"acs:SourceIp":["203.0.113.7","*"]}}`:              at + ".NotIpAddress.acs:SourceIp[1]: ",
		`{"IpAddress":{"acs:CurrentTime":"203.0.113.7"}}`:                    at + ".IpAddress.acs:CurrentTime: its value is a date",
		`{"Bool":{"acs:PrincipalARN":"true"}}`:                               "its value is a string",
		`{"StringEquals":{"a:k":"x","a:k":"y"}}`:                             at + ".StringEquals.a:k: it is there twice",
		`{"StringEquals":{"a:k":"x"},"StringEquals":{"a:l":"y"}}`:            at + ".StringEquals: it is there twice",
		`{"StringEquals":{"a:k":{"x":"y"}}}`:                                 "it must be a string",
		`{"StringLike":{"acs:ResourceTag/k":null}}`:                          "it must be a string",
		`{"NumericLessThan":{"acs:SourceIp":"5"}}`:                           "its value is an IP address",
		"{\n\"IpAddress\":\n{\"acs:SourceIp\":\n\"203.0.113.7/\"}}":          at + ".IpAddress.acs:SourceIp (line 4): ",
		"{\"IpAddress\":{\"acs:SourceIp\":[\n\"203.0.113.7\",\n\"x\"\n]}}\n": at + ".IpAddress.acs:SourceIp[1] (line 3): ",
	} {
		_, err := ram.Parse(conditional(conditions))
		require.ErrorIs(t, err, ram.ErrMalformed, conditions)
		require.ErrorContains(t, err, message, conditions)
	}
}

func TestASessionPolicyMayHave1024Characters(t *testing.T) {
	t.Parallel()
	document := conditional(`{}`)
	fits := document + strings.Repeat(" ", ram.MaxSessionCharacters-len(document))
	_, err := ram.ParseSession(fits)
	require.NoError(t, err)
	_, err = ram.ParseSession(fits + " ")
	require.ErrorIs(t, err, ram.ErrMalformed)
	_, err = ram.ParseSession("")
	require.ErrorIs(t, err, ram.ErrMalformed)
}

func TestTheContextIsListedAsItWasSet(t *testing.T) {
	t.Parallel()
	context := ram.Context{}
	context.Set("acs:SourceIp", "a")
	context.Set("ACS:SOURCEIP", "b")
	context.Set("acs:ResourceTag/Team", "c")
	context.Set("acs:MFAPresent", "d")
	context.Unset("acs:mfapresent")
	var all []string
	for key, value := range context.All() {
		all = append(all, key+"="+value)
	}
	require.Equal(t, []string{"acs:ResourceTag/Team=c", "ACS:SOURCEIP=b"}, all)
	value, present := context.Get("Acs:SourceIP")
	require.Equal(t, "b", value)
	require.True(t, present)
}
