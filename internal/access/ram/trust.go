package ram

import (
	"regexp"
	"slices"
	"strings"
)

// Trust is a trust policy: who may assume the role that has it.
type Trust struct {
	Statements []TrustStatement
}

// TrustStatement is about some principals that assume the role.
type TrustStatement struct {
	Sid        string
	Effect     Effect
	Principals []Principal // any of which may be the caller
	Conditions []Condition // all of which must hold

	action bool
}

// Principal is somebody whom a trust policy names.
type Principal struct {
	Kind string // RAM, Service or Federated
	Name string // of RAM: acs:ram::ACCOUNT:root, user/NAME, role/NAME or role/NAME/SESSION
}

// The account's root stands for everybody in the account.
var principalPatterns = map[string]*regexp.Regexp{
	"RAM":       regexp.MustCompile(`^acs:ram::[0-9]{16}:(root|user/[A-Za-z0-9._@-]+|role/[A-Za-z0-9._-]+(/[A-Za-z0-9._@-]+)?)$`),
	"Service":   regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+$`),
	"Federated": regexp.MustCompile(`^acs:ram::[0-9]{16}:(saml|oidc)-provider/[A-Za-z0-9._-]+$`),
}

var principalRules = map[string]string{
	"RAM":       "acs:ram::ACCOUNT:root, acs:ram::ACCOUNT:user/NAME or acs:ram::ACCOUNT:role/NAME",
	"Service":   "the name of a service, such as ecs.aliyuncs.com",
	"Federated": "acs:ram::ACCOUNT:saml-provider/NAME",
}

// ParseTrust reads the trust policy of a role. It refuses, with ErrMalformed, whatever it does not understand.
func ParseTrust(document string) (Trust, error) {
	var trust Trust
	err := read(document, MaxCharacters, func(p parser) (err error) {
		trust.Statements, err = documentOf(p, TrustStatement.complete, parser.trustMember)
		return err
	})
	if err != nil {
		return Trust{}, err
	}
	return trust, nil
}

// trustMember reads a member of a statement of a trust policy.
func (p parser) trustMember(s *TrustStatement, name, path string) (err error) {
	switch name {
	case "Sid":
		s.Sid, err = p.text(path)
	case "Effect":
		s.Effect, err = p.effect(path)
	case "Action":
		s.action = true
		_, err = p.texts(path, func(text, path string) (string, error) {
			if !strings.EqualFold(text, "sts:AssumeRole") {
				return "", malformed(path, "%q is not sts:AssumeRole, the only action of a trust policy", text)
			}
			return text, nil
		})
	case "Principal":
		s.Principals, err = p.principals(path)
	case "Condition":
		s.Conditions, err = p.conditions(path)
	case "Resource":
		err = malformed(path, "a trust policy has none: it is about the role that has it")
	default:
		err = malformed(path, "there is no such member")
	}
	return err
}

func (s TrustStatement) complete(path string) error {
	switch {
	case s.Effect == "":
		return malformed(path, "Effect is required")
	case !s.action:
		return malformed(path, "Action is required: sts:AssumeRole")
	case len(s.Principals) == 0:
		return malformed(path, "Principal is required: who may assume the role")
	}
	return nil
}

func (p parser) principals(path string) ([]Principal, error) {
	var all []Principal
	err := p.object(path, func(kind, path string) error {
		pattern, ok := principalPatterns[kind]
		if !ok {
			return malformed(path, "principals are RAM, Service or Federated")
		}
		_, err := p.texts(path, func(name, path string) (string, error) {
			if !pattern.MatchString(name) {
				return "", malformed(path, "%q is not %s", name, principalRules[kind])
			}
			all = append(all, Principal{kind, name})
			return name, nil
		})
		return err
	})
	return all, err
}

// Decide says what the trust policy does to the caller with this ARN: Deny, Allow, or "" where no statement is about it.
// Services and identity providers do not call here: statements about them alone are about nobody.
func (t Trust) Decide(arn string, context Context) (effect Effect, statement int) {
	effect, statement = "", -1
	for i := range t.Statements {
		s := &t.Statements[i]
		if effect == Allow && s.Effect == Allow || !s.matches(arn, context) {
			continue
		}
		if effect, statement = s.Effect, i; effect == Deny {
			break
		}
	}
	return effect, statement
}

func (s *TrustStatement) matches(arn string, context Context) bool {
	if !slices.ContainsFunc(s.Principals, func(p Principal) bool { return p.is(arn) }) {
		return false
	}
	for i := range s.Conditions {
		if !s.Conditions[i].Holds(context) {
			return false
		}
	}
	return true
}

// is reports whether the principal stands for the caller with this ARN. A role stands for each of its sessions.
func (p Principal) is(arn string) bool {
	if p.Kind != "RAM" {
		return false
	}
	if account, whole := strings.CutSuffix(p.Name, ":root"); whole {
		return strings.HasPrefix(arn, account+":")
	}
	return arn == p.Name || strings.HasPrefix(arn, p.Name+"/")
}
