package ram_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access/ram"
)

func TestADocumentIsParsed(t *testing.T) {
	t.Parallel()
	parsed, err := ram.Parse(`{"Version": "1", "Statement": [
		{"Sid": "a", "Effect": "Allow", "Action": ["gpdb:Describe*", "GPDB:List?"], "Resource": "acs:gpdb:*:*:dbinstance/gp-1"},
		{"Effect": "Deny", "NotAction": "ram:*", "Resource": ["*", "acs:*:*cn-beijing*:*:*"]}]}`)
	require.NoError(t, err)
	require.Equal(t, ram.Document{Statements: []ram.Statement{
		{Sid: "a", Effect: ram.Allow, Actions: []string{"gpdb:describe*", "gpdb:list?"}, Resources: []string{"acs:gpdb:*:*:dbinstance/gp-1"}},
		{Effect: ram.Deny, NotActions: []string{"ram:*"}, Resources: []string{"*", "acs:*:*cn-beijing*:*:*"}},
	}}, parsed)
}

func TestAStatementMayStandAlone(t *testing.T) {
	t.Parallel()
	parsed, err := ram.Parse(` {"Statement": {"Effect":"Allow","Action":"*","Resource":"*"}, "Version":"1"} `)
	require.NoError(t, err)
	require.Len(t, parsed.Statements, 1)
}

func TestMalformedDocumentsAreRefusedWithThePlace(t *testing.T) {
	t.Parallel()
	statement := func(members string) string { return `{"Version":"1","Statement":[` + members + `]}` }
	with := func(member string) string {
		return statement(`{"Effect":"Allow","Action":"*","Resource":"*",` + member + `}`)
	}
	for document, message := range map[string]string{
		``:                "unfinished",
		`null`:            "must be an object",
		`[]`:              "must be an object",
		`{`:               "unfinished",
		`{"Version" "1"}`: "not JSON",
		`{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]`:                 "unfinished",
		`{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]} {}`:             "follows",
		`{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}],"Statement":[]}`: "at Statement: it is there twice",
		`{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}],"Id":"x"}`:       "at Id: there is no such member",
		`{"Version":"1","version":"1","Statement":[]}`:                                                "at version: there is no such member",
		`{"Version":1,"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`:                  "at Version: it must be a string",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`:       `at Version: it must be the string "1"`,
		`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`:                              "at Version",
		`{"Version":"1"}`:                                      "at Statement: at least one",
		`{"Version":"1","Statement":[]}`:                       "at Statement: at least one",
		`{"Version":"1","Statement":"x"}`:                      "at Statement: it must be an object",
		statement(`[]`):                                        "at Statement[0]: it must be an object",
		statement(`{}`):                                        "at Statement[0]: Effect is required",
		statement(`{"Effect":"Allow","Resource":"*"}`):         "at Statement[0]: Action or NotAction is required",
		statement(`{"Effect":"Allow","Action":"*"}`):           "at Statement[0]: Resource is required",
		statement(`{"Effect":"allow"}`):                        `at Statement[0].Effect: it must be Allow or Deny, not "allow"`,
		statement(`{"Effect":null}`):                           "at Statement[0].Effect: it must be a string",
		statement(`{"Effect":"Allow","Effect":"Deny"}`):        "at Statement[0].Effect: it is there twice",
		statement(`{"Effect":"Allow","\u0045ffect":"Deny"}`):   "at Statement[0].Effect: it is there twice",
		statement(`{"Action":[]}`):                             "at Statement[0].Action: it is empty",
		statement(`{"Action":["*",["*"]]}`):                    "at Statement[0].Action[1]: it must be a string",
		statement(`{"Action":{"a":"b"}}`):                      "at Statement[0].Action: it must be a string",
		statement(`{"Action":""}`):                             "at Statement[0].Action",
		statement(`{"Action":"gpdb"}`):                         `at Statement[0].Action: "gpdb" is not PRODUCT:OPERATION`,
		statement(`{"Action":["*"," gpdb:*"]}`):                "at Statement[0].Action[1]",
		statement(`{"Resource":[]}`):                           "at Statement[0].Resource: it is empty",
		statement(`{"Resource":"dbinstance/gp-1"}`):            "is not an ARN",
		statement(`{"Resource":[1]}`):                          "at Statement[0].Resource[0]: it must be a string",
		with(`"NotAction":"*"`):                                "at Statement[0]: Action and NotAction cannot stand together",
		with(`"Principal":{"RAM":"*"}`):                        "at Statement[0].Principal",
		with(`"NotResource":"*"`):                              "at Statement[0].NotResource",
		with(`"NotPrincipal":"*"`):                             "at Statement[0].NotPrincipal: there is no such member",
		with(`"Sid":1`):                                        "at Statement[0].Sid: it must be a string",
		with(`"Sid":"` + strings.Repeat("é", 6145) + `"`):      "at most 6144",
		with(`"Sid":"` + "\xff" + `"`):                         "not valid UTF-8",
		with(`"Sid":"a` + "\x00" + `"`):                        "not JSON",
		statement(`{"Effect":"Allow"} {"Effect":"Allow"}`):     "at Statement[0]: Action or NotAction",
		statement(strings.Repeat(`[`, 3000)):                   "must be an object",
		`{"Version":"1","Statement":` + strings.Repeat(`[`, 9): "must be an object",
	} {
		_, err := ram.Parse(document)
		require.ErrorIs(t, err, ram.ErrMalformed, document)
		require.ErrorContains(t, err, message, document)
	}
}

func TestADocumentMayHave6144Characters(t *testing.T) {
	t.Parallel()
	const rest = `{"Version":"1","Statement":[{"Sid":"","Effect":"Allow","Action":"*","Resource":"*"}]}`
	fits := strings.Replace(rest, `"Sid":""`, `"Sid":"`+strings.Repeat("é", ram.MaxCharacters-len(rest))+`"`, 1)
	_, err := ram.Parse(fits)
	require.NoError(t, err)
	_, err = ram.Parse(fits + " ")
	require.ErrorIs(t, err, ram.ErrMalformed)
}

func TestStatementsMatch(t *testing.T) {
	t.Parallel()
	only := ram.Statement{Actions: []string{"gpdb:describe*"}, Resources: []string{"acs:gpdb::1:dbinstance/gp-1"}}
	filled, empty := "acs:gpdb:cn-hangzhou:1:dbinstance/gp-1", "acs:gpdb::1:dbinstance/gp-1"
	matches := func(s ram.Statement, action string, resources []string) bool {
		return s.Matches(ram.NewRequest(action, resources, nil))
	}
	require.True(t, matches(only, "GPDB:DescribeDBInstances", []string{filled, empty}), "any spelling of the resource will do")
	require.False(t, matches(only, "gpdb:DescribeDBInstances", []string{filled}))
	require.False(t, matches(only, "gpdb:DescribeDBInstances", []string{"acs:gpdb::1:DBINSTANCE/gp-1"}), "the resource's case matters")
	require.False(t, matches(only, "gpdb:ListAINodePools", []string{empty}))
	require.False(t, matches(only, "gpdb:DescribeDBInstances", []string{"*"}), "a statement about one instance says nothing of *")

	others := ram.Statement{NotActions: []string{"gpdb:delete*", "ram:*"}, Resources: []string{"*"}}
	require.True(t, matches(others, "gpdb:CreateModelService", []string{"*"}))
	require.False(t, matches(others, "gpdb:DeleteModelService", []string{"*"}))
	require.False(t, matches(others, "RAM:CreateUser", []string{"*"}))
}
