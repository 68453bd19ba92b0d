package resourcemanager

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/engineshed/engineshed/internal/iam/directory"
	rmapi "github.com/engineshed/engineshed/internal/oapi/resourcemanager"
	"github.com/engineshed/engineshed/internal/resource"
	"github.com/engineshed/engineshed/internal/resourcegroup"
)

const statusOK = "OK" // of every group

func (s *Server) fromGroup(ctx context.Context, g resourcegroup.Group) rmapi.ResourceGroup {
	group := rmapi.ResourceGroup{
		Id: g.ID, Name: g.Name, DisplayName: g.DisplayName, AccountId: accountOf(ctx), Status: statusOK, CreateDate: fromTime(g.CreatedAt),
	}
	group.RegionStatuses.RegionStatus = []rmapi.RegionStatus{{RegionId: s.Region, Status: statusOK}}
	return group
}

func toFilter(accountID string, body *rmapi.ListResourceGroupsRequest) resourcegroup.Filter {
	filter := resourcegroup.Filter{
		AccountID:   accountID,
		IDs:         orZero(body.ResourceGroupIds),
		Name:        orZero(body.Name),
		DisplayName: orZero(body.DisplayName),
		PageNumber:  int(orZero(body.PageNumber)),
		PageSize:    int(orZero(body.PageSize)),
	}
	if id := orZero(body.ResourceGroupId); id != "" {
		filter.IDs = append(filter.IDs, id)
	}
	if status := orZero(body.Status); status != "" && status != rmapi.StatusOK {
		filter.IDs = []string{""} // none has it
	}
	return filter
}

func toRef(r rmapi.MovedResource) resource.Ref {
	return resource.Ref{Service: r.Service, Type: r.ResourceType, ID: r.ResourceId}
}

func toMemberFilter(accountID string, body *rmapi.ListResourcesRequest) resource.MemberFilter {
	return resource.MemberFilter{
		AccountID:       accountID,
		Service:         orZero(body.Service),
		Type:            orZero(body.ResourceType),
		ID:              orZero(body.ResourceId),
		ResourceGroupID: orZero(body.ResourceGroupId),
		PageNumber:      int(orZero(body.PageNumber)),
		PageSize:        int(orZero(body.PageSize)),
	}
}

func (s *Server) fromMember(m resource.Member) rmapi.Resource {
	return rmapi.Resource{
		Service: m.Service, ResourceType: m.Type, ResourceId: m.ID, ResourceGroupId: m.ResourceGroupID, RegionId: s.Region,
		CreateDate: fromTime(m.CreatedAt),
	}
}

// principalType is a kind of principal as this product writes it.
type principalType struct {
	name   string
	suffix string // of names, after the account
	before string // the account
	kind   directory.Kind
}

var principalTypes = []principalType{
	{"IMSUser", ".onaliyun.com", "@", directory.OfUser},
	{"IMSGroup", ".onaliyun.com", "@group.", directory.OfGroup},
	{"ServiceRole", ".onaliyunservice.com", "@role.", directory.OfRole},
}

// toPrincipal takes a name alone or with what the original adds to it.
func toPrincipal(accountID, typeName, name string) directory.Principal {
	for _, t := range principalTypes {
		if t.name == typeName {
			return directory.Principal{Kind: t.kind, Name: strings.TrimSuffix(name, t.before+accountID+t.suffix)}
		}
	}
	return directory.Principal{Name: name}
}

// toScope turns the account's own id, which stands for the whole account, into none.
func toScope(accountID, resourceGroupID string) string {
	if resourceGroupID == accountID {
		return ""
	}
	return resourceGroupID
}

func toAttachedFilter(accountID string, body *rmapi.ListPolicyAttachmentsRequest) directory.AttachedFilter {
	principal := toPrincipal(accountID, string(orZero(body.PrincipalType)), orZero(body.PrincipalName))
	return directory.AttachedFilter{
		AccountID:       accountID,
		WholeAccount:    orZero(body.ResourceGroupId) == accountID,
		ResourceGroupID: toScope(accountID, orZero(body.ResourceGroupId)),
		PolicyType:      string(orZero(body.PolicyType)),
		Policy:          orZero(body.PolicyName),
		Kind:            principal.Kind.Name,
		Principal:       principal.Name,
		PageNumber:      int(orZero(body.PageNumber)),
		PageSize:        int(orZero(body.PageSize)),
	}
}

func fromAttached(accountID string, a directory.Attached) rmapi.PolicyAttachment {
	attachment := rmapi.PolicyAttachment{
		PolicyType: a.Type, PolicyName: a.Name, Description: a.Description,
		ResourceGroupId: cmp.Or(a.ResourceGroupID, accountID), AttachDate: fromTime(a.CreatedAt),
		Source: rmapi.PolicyAttachmentSource(a.Source),
	}
	for _, t := range principalTypes {
		if t.kind.Name == a.Kind {
			attachment.PrincipalType, attachment.PrincipalName = t.name, a.Principal+t.before+accountID+t.suffix
		}
	}
	return attachment
}

func fromTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

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
