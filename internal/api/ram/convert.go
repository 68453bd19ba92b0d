package ram

import (
	"context"
	"strconv"
	"time"

	"github.com/engineshed/engineshed/internal/iam"
	"github.com/engineshed/engineshed/internal/iam/directory"
	ramapi "github.com/engineshed/engineshed/internal/oapi/ram"
)

func toUser(body *ramapi.CreateUserRequest) directory.User {
	return directory.User{
		Name:        body.UserName,
		DisplayName: orZero(body.DisplayName),
		MobilePhone: orZero(body.MobilePhone),
		Email:       orZero(body.Email),
		Comments:    orZero(body.Comments),
	}
}

func toUserChange(body *ramapi.UpdateUserRequest) directory.UserChange {
	return directory.UserChange{
		Name:        body.NewUserName,
		DisplayName: body.NewDisplayName,
		MobilePhone: body.NewMobilePhone,
		Email:       body.NewEmail,
		Comments:    body.NewComments,
	}
}

func fromUser(u directory.User) ramapi.User {
	return ramapi.User{
		UserId:      u.ID,
		UserName:    u.Name,
		DisplayName: u.DisplayName,
		MobilePhone: u.MobilePhone,
		Email:       u.Email,
		Comments:    u.Comments,
		CreateDate:  fromTime(u.CreatedAt),
		UpdateDate:  fromTime(u.UpdatedAt),
		Source:      ramapi.UserSource(u.Source),
	}
}

func fromUsers(users []directory.User) ramapi.Users {
	return ramapi.Users{User: mapped(users, fromUser)}
}

// fromMembers shows when users came into a group.
func fromMembers(users []directory.User) ramapi.Users {
	members := fromUsers(users)
	for i := range members.User {
		members.User[i].JoinDate = fromOptionalTime(users[i].Since)
	}
	return members
}

// fromAttachedUsers shows when users were given a policy.
func fromAttachedUsers(users []directory.User) ramapi.Users {
	attached := fromUsers(users)
	for i := range attached.User {
		attached.User[i].AttachDate = fromOptionalTime(users[i].Since)
	}
	return attached
}

func fromCreatedKey(key iam.AccessKey, at time.Time) ramapi.CreatedAccessKey {
	return ramapi.CreatedAccessKey{
		AccessKeyId: key.ID, AccessKeySecret: key.Secret.Reveal(), Status: status(true), CreateDate: fromTime(at),
	}
}

func fromKey(k directory.Key) ramapi.AccessKey {
	return ramapi.AccessKey{
		AccessKeyId: k.ID, Status: status(k.Active), CreateDate: fromTime(k.CreatedAt), Source: ramapi.AccessKeySource(k.Source),
	}
}

func status(active bool) string {
	if active {
		return "Active"
	}
	return "Inactive"
}

func fromGroup(g directory.Group) ramapi.Group {
	return ramapi.Group{
		GroupId:    g.ID,
		GroupName:  g.Name,
		Comments:   g.Comments,
		CreateDate: fromTime(g.CreatedAt),
		UpdateDate: fromTime(g.UpdatedAt),
		Source:     ramapi.GroupSource(g.Source),
	}
}

func fromGroups(groups []directory.Group) ramapi.Groups {
	return ramapi.Groups{Group: mapped(groups, fromGroup)}
}

// fromJoinedGroups shows when a user came into groups.
func fromJoinedGroups(groups []directory.Group) ramapi.Groups {
	joined := fromGroups(groups)
	for i := range joined.Group {
		joined.Group[i].JoinDate = fromOptionalTime(groups[i].Since)
	}
	return joined
}

// fromAttachedGroups shows when groups were given a policy.
func fromAttachedGroups(groups []directory.Group) ramapi.Groups {
	attached := fromGroups(groups)
	for i := range attached.Group {
		attached.Group[i].AttachDate = fromOptionalTime(groups[i].Since)
	}
	return attached
}

func toRole(body *ramapi.CreateRoleRequest) directory.Role {
	return directory.Role{
		Name:              body.RoleName,
		Description:       orZero(body.Description),
		TrustPolicy:       body.AssumeRolePolicyDocument,
		MaxSessionSeconds: int(orZero(body.MaxSessionDuration)),
	}
}

func toRoleChange(body *ramapi.UpdateRoleRequest) directory.RoleChange {
	change := directory.RoleChange{TrustPolicy: body.NewAssumeRolePolicyDocument, Description: body.NewDescription}
	if body.NewMaxSessionDuration != nil {
		seconds := int(*body.NewMaxSessionDuration)
		change.MaxSessionSeconds = &seconds
	}
	return change
}

func fromRole(ctx context.Context, r directory.Role) ramapi.Role {
	return ramapi.Role{
		RoleId:                   r.ID,
		RoleName:                 r.Name,
		Arn:                      directory.RoleARN(accountOf(ctx), r.Name),
		Description:              r.Description,
		AssumeRolePolicyDocument: r.TrustPolicy,
		MaxSessionDuration:       int64(r.MaxSessionSeconds),
		CreateDate:               fromTime(r.CreatedAt),
		UpdateDate:               fromTime(r.UpdatedAt),
		Source:                   ramapi.RoleSource(r.Source),
		AttachDate:               fromOptionalTime(r.Since),
	}
}

func fromRoles(ctx context.Context, roles []directory.Role) ramapi.Roles {
	return ramapi.Roles{Role: mapped(roles, func(r directory.Role) ramapi.Role { return fromRole(ctx, r) })}
}

func fromPolicy(p directory.Policy) ramapi.Policy {
	return ramapi.Policy{
		PolicyName:      p.Name,
		PolicyType:      p.Type,
		Description:     p.Description,
		DefaultVersion:  fromVersionNumber(p.DefaultVersion),
		AttachmentCount: int32(p.Attachments),
		CreateDate:      fromTime(p.CreatedAt),
		UpdateDate:      fromTime(p.UpdatedAt),
		AttachDate:      fromOptionalTime(p.Since),
		Source:          ramapi.PolicySource(p.Source),
	}
}

func fromPolicies(policies []directory.Policy) ramapi.Policies {
	return ramapi.Policies{Policy: mapped(policies, fromPolicy)}
}

func toVersionSpec(accountID string, body *ramapi.CreatePolicyVersionRequest) directory.VersionSpec {
	return directory.VersionSpec{
		AccountID:    accountID,
		PolicyName:   body.PolicyName,
		Document:     body.PolicyDocument,
		SetAsDefault: orZero(body.SetAsDefault),
		Rotate:       orZero(body.RotateStrategy) == ramapi.RotateOldest,
	}
}

func fromVersion(v directory.Version) ramapi.PolicyVersion {
	return ramapi.PolicyVersion{
		VersionId: fromVersionNumber(v.Version), IsDefaultVersion: v.IsDefault, PolicyDocument: v.Document, CreateDate: fromTime(v.CreatedAt),
	}
}

func fromVersionNumber(n int) string { return "v" + strconv.Itoa(n) }

func toPage(marker *string, size *int32) directory.Page {
	return directory.Page{Marker: orZero(marker), Size: int(orZero(size))}
}

func fromTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

func fromOptionalTime(t *time.Time) *string {
	if t == nil {
		return nil
	}
	text := fromTime(*t)
	return &text
}

func orZero[T any](value *T) T {
	if value == nil {
		var zero T
		return zero
	}
	return *value
}

func mapped[From, To any](list []From, convert func(From) To) []To {
	converted := make([]To, len(list))
	for i, item := range list {
		converted[i] = convert(item)
	}
	return converted
}
