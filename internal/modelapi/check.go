package modelapi

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/route"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const (
	maxBasePath    = 256
	maxDescription = 255
	maxDomains     = 10
	maxRoutes      = 200 // of one API
	maxPath        = 512
	maxRegexStates = 1000 // of a compiled expression
	maxValueMatch  = 16
	maxValue       = 256
)

var (
	validName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	// What a path holds unescaped, but for %: a gateway never decodes, so that an escaped path would be another one.
	pathSegments   = regexp.MustCompile(`^(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+$`)
	pathParameter  = regexp.MustCompile(`/\{[A-Za-z0-9_]+\}`)
	validHeader    = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")
	knownMethods   = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
	knownProtocols = []string{"HTTP", "HTTPS"}
)

// definition returns the checked first state of an API, without its routes. What needs the database is checked later.
func (s *Spec) definition() (*Definition, error) {
	d := &Definition{
		Name: s.Name, Type: s.Type, AIProtocols: s.AIProtocols, BasePath: s.BasePath, RemoveBasePath: s.RemoveBasePath,
		Protocols: s.Protocols, Description: s.Description, EnableAuth: s.EnableAuth, AuthConfig: s.AuthConfig,
		FirstByteTimeout: s.FirstByteTimeout, TrafficConfig: s.TrafficConfig,
	}
	if !validName.MatchString(s.Name) {
		return nil, ErrName
	}
	if d.BasePath == "" {
		d.BasePath = "/"
	}
	if s.Type != TypeLLM && s.Type != TypeAi {
		return nil, ErrType.Withf("The type %.40q is not served; a Model API is of type LLM or Ai.", s.Type)
	}
	var err error
	if d.ModelCategory, err = canonicalCategory(s.ModelCategory); err != nil {
		return nil, err
	}
	if d.DeployConfig, err = single(s.DeployConfigs); err != nil {
		return nil, err
	}
	if d.DeployConfig.CustomDomainIDs == nil {
		d.DeployConfig.CustomDomainIDs = []string{}
	}
	if d.DeployConfig.EnvDomainIDs == nil {
		d.DeployConfig.EnvDomainIDs = []string{d.DeployConfig.EnvironmentID}
	}
	if s.ResourceGroupID == "" {
		s.ResourceGroupID = instance.DefaultResourceGroup
	}
	return d, d.check()
}

// apply changes the definition as asked and checks it.
func (u *UpdateSpec) apply(d *Definition) error {
	d.BasePath = u.BasePath
	if u.AIProtocols != nil {
		d.AIProtocols = u.AIProtocols
	}
	if u.Protocols != nil {
		d.Protocols = u.Protocols
	}
	if u.AuthConfig != nil {
		d.AuthConfig = u.AuthConfig
	}
	set(&d.RemoveBasePath, u.RemoveBasePath)
	set(&d.Description, u.Description)
	set(&d.EnableAuth, u.EnableAuth)
	set(&d.FirstByteTimeout, u.FirstByteTimeout)
	set(&d.TrafficConfig, u.TrafficConfig)
	if u.DeployConfigs != nil {
		next, err := single(u.DeployConfigs)
		if err != nil {
			return err
		}
		keepDomains(&next, d.DeployConfig)
		d.DeployConfig = next
	}
	return d.check()
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// keepDomains fills in the bindings that an update does not name. The sub-domain follows the environment.
func keepDomains(next *DeployConfig, before DeployConfig) {
	if next.CustomDomainIDs == nil {
		next.CustomDomainIDs = before.CustomDomainIDs
	}
	if next.EnvDomainIDs == nil {
		next.EnvDomainIDs = []string{}
		if len(before.EnvDomainIDs) > 0 {
			next.EnvDomainIDs = []string{next.EnvironmentID}
		}
	}
}

func single(configs []DeployConfig) (DeployConfig, error) {
	if len(configs) != 1 {
		return DeployConfig{}, ErrDeployConfigs.Withf("%d deployConfigs are given; a Model API has exactly one.", len(configs))
	}
	return configs[0], nil
}

// check applies the rules that need no database, and brings spellings into one form.
func (d *Definition) check() error {
	if err := checkBasePath(d.BasePath); err != nil {
		return err
	}
	if err := d.checkProtocols(); err != nil {
		return err
	}
	if len(d.Description) > maxDescription {
		return fault.InvalidParameter("description", fmt.Sprintf("it is longer than %d bytes.", maxDescription))
	}
	if err := d.checkTraffic(); err != nil {
		return err
	}
	if err := d.checkAuth(); err != nil {
		return err
	}
	return d.DeployConfig.check()
}

func checkBasePath(path string) error {
	switch {
	case path == "/":
		return nil
	case path == "":
		return fault.MissingParameter("basePath")
	case len(path) > maxBasePath:
		return ErrBasePath.Withf("The basePath is longer than %d bytes.", maxBasePath)
	case !strings.HasPrefix(path, "/"):
		return ErrBasePath.Withf("The basePath %q does not begin with /.", path)
	case !plainSegments(path):
		return ErrBasePath.Withf("The basePath %q is not of the form /a/b: no space, ?, # or %%, no empty, . or .. segment, and no / at its end.", path)
	case route.Reserved(path):
		return ErrBasePath.Withf("The basePath %q is reserved; so are %s and what is below them.", path, strings.Join(route.ReservedPaths(), ", "))
	}
	return nil
}

// plainSegments refuses what two readers could read in two ways; some cut segments at ";".
func plainSegments(path string) bool {
	return pathSegments.MatchString(path) && !slices.ContainsFunc(strings.Split(path, "/"), func(segment string) bool {
		name, _, _ := strings.Cut(segment, ";")
		return name == "." || name == ".."
	})
}

func (d *Definition) checkProtocols() error {
	canonical := make([]string, len(d.AIProtocols))
	for i, protocol := range d.AIProtocols {
		canonical[i] = canonicalProtocol(protocol)
		if slices.Contains(canonical[:i], canonical[i]) {
			return ErrProtocols.Withf("The aiProtocols name %s twice.", canonical[i])
		}
	}
	if d.AIProtocols = canonical; len(canonical) == 0 || d.Type == TypeLLM && len(canonical) != 1 {
		return ErrProtocols.Withf("%d aiProtocols are given; type LLM has exactly one, type Ai one or more.", len(canonical))
	}
	if _, err := defaultsOf(d.ModelCategory, d.AIProtocols); err != nil {
		return err
	}
	if d.Protocols == nil {
		d.Protocols = slices.Clone(knownProtocols)
	}
	for i, protocol := range d.Protocols {
		if !slices.Contains(knownProtocols, protocol) || slices.Contains(d.Protocols[:i], protocol) {
			return fault.InvalidParameter("protocols", "it holds HTTP, HTTPS or both.")
		}
	}
	if len(d.Protocols) == 0 {
		return fault.InvalidParameter("protocols", "it holds HTTP, HTTPS or both.")
	}
	return nil
}

func (d *Definition) checkAuth() error {
	if d.AuthConfig == nil {
		if d.EnableAuth {
			return fault.MissingParameter("authConfig")
		}
		return nil
	}
	auth := *d.AuthConfig
	var known bool
	for _, one := range []snapshot.AuthType{snapshot.AuthByKey, snapshot.AuthByToken, snapshot.AuthBySignature} {
		if strings.EqualFold(one.String(), auth.AuthType) {
			auth.AuthType, known = one.String(), true
		}
	}
	d.AuthConfig = &auth
	switch {
	case auth.AuthType != "" && !known:
		return fault.InvalidParameter("authConfig.authType", "it is Apikey, Jwt or AkSk.")
	case !slices.Contains([]string{"", "NoAuth", "Custom"}, auth.AuthMode):
		return fault.InvalidParameter("authConfig.authMode", "it is NoAuth or Custom.")
	case !d.EnableAuth:
		return nil
	case auth.AuthMode == "NoAuth":
		return fault.InvalidParameter("authConfig.authMode", "enableAuth is true; NoAuth would let everybody in. Use Custom.")
	case auth.AuthType == "":
		return fault.MissingParameter("authConfig.authType")
	}
	return nil
}

func (c *DeployConfig) check() error {
	if c.GatewayID == "" || c.EnvironmentID == "" {
		return ErrDeployConfigs.Withf("The parameters deployConfigs[0].gatewayId and .environmentId are required.")
	}
	if len(c.CustomDomainIDs) > maxDomains {
		return ErrDeployConfigs.Withf("%d customDomainIds are given; at most %d are allowed.", len(c.CustomDomainIDs), maxDomains)
	}
	c.CustomDomainIDs = slices.Clone(c.CustomDomainIDs)
	slices.Sort(c.CustomDomainIDs)
	c.CustomDomainIDs = slices.Compact(c.CustomDomainIDs)
	for _, id := range c.EnvDomainIDs {
		if id != c.EnvironmentID {
			return ErrDeployConfigs.Withf("The envDomainIds hold %.64q; an environment has one sub-domain, and its id is the environment's: %s.", id, c.EnvironmentID)
		}
	}
	c.EnvDomainIDs = slices.Compact(slices.Clone(c.EnvDomainIDs))
	backend, err := Backend{c.BackendScene, c.Services}.checked("serviceConfigs")
	if err != nil {
		return err
	}
	c.BackendScene, c.Services = backend.Scene, backend.Services
	c.PolicyConfigs, err = checkedPolicies(c.PolicyConfigs, PolicyAiStatistics, PolicyAiFallback)
	return err
}

// check applies the rules of a route that need no database.
func (r *RouteDefinition) check(basePath string) error {
	if !validName.MatchString(r.Name) {
		return ErrName
	}
	if len(r.Description) > maxDescription {
		return fault.InvalidParameter("description", fmt.Sprintf("it is longer than %d bytes.", maxDescription))
	}
	if err := r.Match.check(basePath); err != nil {
		return err
	}
	if r.Backend != nil && len(r.Backend.Services) == 0 {
		r.Backend = nil
	}
	if r.Backend != nil {
		backend, err := r.Backend.checked("backendConfig.services")
		if err != nil {
			return err
		}
		r.Backend = &backend
	}
	policies, err := checkedPolicies(r.PolicyConfigs, PolicyAiFallback)
	r.PolicyConfigs = policies
	return err
}

func (m *Match) check(basePath string) error {
	if err := m.Path.check(basePath); err != nil {
		return err
	}
	for i, method := range m.Methods {
		if !slices.Contains(knownMethods, method) || slices.Contains(m.Methods[:i], method) {
			return ErrMatch.Withf("The methods of a route are some of %s, each once; not %.40q.", strings.Join(knownMethods, ", "), method)
		}
	}
	if len(m.Headers) > maxValueMatch || len(m.QueryParams) > maxValueMatch {
		return ErrMatch.Withf("A route matches at most %d headers and as many query parameters.", maxValueMatch)
	}
	for _, h := range m.Headers {
		if !validHeader.MatchString(h.Name) {
			return ErrMatch.Withf("%.128q is not the name of a header.", h.Name)
		}
	}
	for _, v := range slices.Concat(m.Headers, m.QueryParams) {
		if err := v.check(); err != nil {
			return err
		}
	}
	return nil
}

func (p PathMatch) check(basePath string) error {
	switch {
	case p.Value == "":
		return ErrMatch.Withf("The parameter match.path.value is required.")
	case len(p.Value) > maxPath:
		return ErrMatch.Withf("The path of a route is at most %d bytes long.", maxPath)
	case !strings.HasPrefix(p.Value, "/"):
		return ErrMatch.Withf("The path %q does not begin with /.", p.Value)
	}
	literal := strings.TrimSuffix(p.Value, "/")
	switch p.Type {
	case Regex:
		return checkRegex(p.Value)
	case Template:
		literal = pathParameter.ReplaceAllString(p.Value, "/x")
	case Exact, Prefix:
	default:
		return ErrMatch.Withf("The type %.40q of a path is not Exact, Prefix, Regex or Template.", p.Type)
	}
	if (p.Value != "/" || p.Type == Template) && !plainSegments(literal) {
		return ErrMatch.Withf("The path %q is not of the form /a/b: no space, ?, # or %%, and no empty, . or .. segment.", p.Value)
	}
	if route.Reserved(strings.TrimSuffix(basePath, "/") + p.Value) {
		return ErrMatch.Withf("The path %q is reserved on every gateway; so are %s and what is below them.", p.Value, strings.Join(route.ReservedPaths(), ", "))
	}
	return nil
}

// checkRegex refuses an expression that is none (RE2 syntax), or whose compiled form is large. It must stand in
// parentheses as well as alone, because gateways match it against whole values.
func checkRegex(expression string) error {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err == nil {
		parsed, err = syntax.Parse("^(?s:"+expression+")$", syntax.Perl)
	}
	if err != nil {
		return ErrMatch.Withf("%.200q is not an expression (RE2 syntax): %v.", expression, err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil || len(program.Inst) > maxRegexStates {
		return ErrMatch.Withf("The expression %.200q is too large; its repeats multiply.", expression)
	}
	return nil
}

func (v ValueMatch) check() error {
	switch {
	case v.Name == "" || len(v.Name) > maxValue || len(v.Value) > maxValue:
		return ErrMatch.Withf("A header or query parameter that a route matches has a name, and both name and value are at most %d bytes long.", maxValue)
	case v.Type == Regex:
		return checkRegex(v.Value)
	case v.Type != Exact && v.Type != Prefix:
		return ErrMatch.Withf("The type %.40q of a match is not Exact, Prefix or Regex.", v.Type)
	}
	return nil
}
