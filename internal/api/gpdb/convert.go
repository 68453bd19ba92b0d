package gpdb

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/modelservice"
	"github.com/engineshed/engineshed/internal/oapi/common"
	gpdbapi "github.com/engineshed/engineshed/internal/oapi/gpdb"
	"github.com/engineshed/engineshed/internal/secret"
)

func toSpec(accountID, region string, body *gpdbapi.CreateModelServiceRequest) modelservice.Spec {
	return modelservice.Spec{
		AccountID:       accountID,
		RegionID:        region,
		DBInstanceID:    body.DBInstanceId,
		ModelName:       body.ModelName,
		Description:     orZero(body.Description),
		AINodes:         body.AiNodes,
		Replicas:        toInt(body.Replicas),
		ModelParams:     orZero(body.ModelParams),
		InferenceEngine: string(orZero(body.InferenceEngine)),
		ResourceGroupID: orZero(body.ResourceGroupId),
		SecurityIPList:  body.SecurityIPList,
		Public:          orZero(body.EnablePublicConnection),
	}
}

func fromService(requestID string, svc modelservice.Service, withKey bool) gpdbapi.DescribeModelServiceResponse {
	apiKey := mask(svc.APIKey)
	if withKey {
		apiKey = svc.APIKey.Reveal()
	}
	return gpdbapi.DescribeModelServiceResponse{
		RequestId:         requestID,
		ModelServiceId:    svc.ID,
		ModelName:         svc.ModelName,
		ModelParams:       orEmptyMap(svc.ModelParams),
		Description:       svc.Description,
		AiNodes:           orEmpty(svc.AINodes),
		Status:            gpdbapi.ModelServiceStatus(svc.Status),
		StatusReason:      svc.StatusReason,
		ApiKey:            apiKey,
		PrivateConnectUrl: svc.PrivateURL,
		PublicConnectUrl:  svc.PublicURL,
		SecurityIpList:    svc.SecurityIPList,
		CreateTime:        fromTime(svc.CreatedAt),
		ReplicaCount:      int32(svc.ReplicaCount),
		Replicas:          mapped(svc.Replicas, fromReplica),
	}
}

func fromReplica(r modelservice.Replica) gpdbapi.ModelServiceReplica {
	return gpdbapi.ModelServiceReplica{
		Replica: int32(r.Ordinal), AiNode: r.NodeName, Status: gpdbapi.ModelServiceReplicaStatus(r.Status), StatusReason: r.Reason,
		UpToDate: r.UpToDate,
	}
}

func toChange(accountID string, body *gpdbapi.ModifyModelServiceRequest) modelservice.Change {
	return modelservice.Change{
		AccountID:         accountID,
		DBInstanceID:      body.DBInstanceId,
		ID:                body.ModelServiceId,
		Description:       body.Description,
		Replicas:          toInt(body.Replicas),
		ModelParams:       orZero(body.ModelParams),
		AINodes:           orZero(body.AiNodes),
		AllowInterruption: orZero(body.AllowInterruption),
	}
}

func fromEvents(requestID string, events []modelservice.Event, page instance.Page, total int) gpdbapi.ListModelServiceEventsResponse {
	return gpdbapi.ListModelServiceEventsResponse{
		RequestId:        requestID,
		Events:           mapped(events, fromEvent),
		PageNumber:       int32(page.Number),
		PageRecordCount:  int32(len(events)),
		TotalRecordCount: int32(total),
	}
}

func fromEvent(e modelservice.Event) gpdbapi.ModelServiceEvent {
	return gpdbapi.ModelServiceEvent{
		EventId: strconv.FormatInt(e.ID, 10), Time: fromTime(e.At), Kind: gpdbapi.ModelServiceEventKind(e.Kind), Message: e.Message,
	}
}

func fromLog(requestID string, log modelservice.Log) gpdbapi.GetModelServiceLogsResponse {
	return gpdbapi.GetModelServiceLogsResponse{
		RequestId:        requestID,
		Replica:          int32(log.Ordinal),
		AiNode:           log.NodeName,
		EngineGeneration: strconv.FormatInt(log.Generation, 10),
		LogOffset:        strconv.FormatInt(log.Offset, 10),
		PreviousLog:      log.Previous,
		Log:              log.Text,
		Time:             fromTime(log.ReadAt),
	}
}

func fromServices(requestID string, services []modelservice.Service, page instance.Page, total int) gpdbapi.ListModelServicesResponse {
	return gpdbapi.ListModelServicesResponse{
		RequestId:        requestID,
		ModelServices:    mapped(services, fromServiceSummary),
		PageNumber:       int32(page.Number),
		PageRecordCount:  int32(len(services)),
		TotalRecordCount: int32(total),
	}
}

func fromServiceSummary(svc modelservice.Service) gpdbapi.ModelServiceSummary {
	return gpdbapi.ModelServiceSummary{
		ModelServiceId: svc.ID,
		ModelName:      svc.ModelName,
		ModelParams:    fromParams(svc.ModelParams),
		Description:    svc.Description,
		AiNodes:        orEmpty(svc.AINodes),
		Status:         gpdbapi.ModelServiceStatus(svc.Status),
		StatusReason:   svc.StatusReason,
		ApiKey:         mask(svc.APIKey),
		PrivateConnUrl: svc.PrivateURL,
		PublicConnUrl:  svc.PublicURL,
		SecurityIPList: svc.SecurityIPList,
		CreateTime:     fromTime(svc.CreatedAt),
	}
}

// fromParams renders engine arguments as text, which is all that the list's type can hold.
func fromParams(params map[string]any) map[string]string {
	texts := make(map[string]string, len(params))
	for name, value := range params {
		if text, ok := value.(string); ok {
			texts[name] = text
			continue
		}
		text, _ := json.Marshal(value) // came from JSON
		texts[name] = string(text)
	}
	return texts
}

// mask shows no more of a key than lets its owner recognise it.
func mask(key secret.Secret) string {
	text := key.Reveal()
	if len(text) < 16 {
		return "****"
	}
	return "****" + text[len(text)-4:]
}

func toInstanceSpec(accountID string, body *gpdbapi.CreateDBInstanceRequest) instance.Spec {
	return instance.Spec{
		AccountID:       accountID,
		RegionID:        body.RegionId,
		Description:     orZero(body.DBInstanceDescription),
		ResourceGroupID: orZero(body.ResourceGroupId),
		SecurityIPList:  orZero(body.SecurityIPList),
		Nodes:           mapped(orZero(body.AINodeSpecInfos), toNodeSpec),
		Tags:            toTags(body.Tag),
	}
}

func toNodeSpec(info gpdbapi.AINodeSpecInfo) instance.NodeSpec {
	count, _ := strconv.Atoi(info.AINodeNum) // the document allows digits only
	return instance.NodeSpec{Spec: info.AINodeSpec, Count: count}
}

func toAddedNodeSpec(info gpdbapi.AddedAINodeSpecInfo) instance.NodeSpec {
	return toNodeSpec(gpdbapi.AINodeSpecInfo{AINodeSpec: info.NodeSpec, AINodeNum: info.NodeNum})
}

func toDeletion(accountID string, body *gpdbapi.DeleteAINodeRequest) instance.Deletion {
	return instance.Deletion{
		AccountID:    accountID,
		DBInstanceID: body.DBInstanceId,
		PoolID:       orZero(body.AINodePoolId),
		Names:        orZero(body.NodeNames),
		Count:        int(orZero(body.AINodeNum)),
	}
}

// modes are the words for what is done with a list; absent is Cover.
var modes = map[gpdbapi.ModifySecurityIpsRequestModifyMode]instance.IPMode{
	gpdbapi.Cover: instance.Cover, gpdbapi.Append: instance.Append, gpdbapi.Delete: instance.Delete,
	gpdbapi.Cover0: instance.Cover, gpdbapi.Append1: instance.Append, gpdbapi.Delete2: instance.Delete,
}

func toIPChange(accountID string, body *gpdbapi.ModifySecurityIpsRequest) instance.IPChange {
	return instance.IPChange{
		AccountID:    accountID,
		DBInstanceID: body.DBInstanceId,
		Array:        orZero(body.DBInstanceIPArrayName),
		Attribute:    body.DBInstanceIPArrayAttribute,
		Mode:         modes[orZero(body.ModifyMode)],
		List:         body.SecurityIPList,
	}
}

func fromIPArray(array instance.IPArray) gpdbapi.IPArray {
	return gpdbapi.IPArray{
		DBInstanceIPArrayName:      array.Name,
		DBInstanceIPArrayAttribute: array.Attribute,
		SecurityIPList:             array.List,
	}
}

func toTags(tags *[]common.Tag) map[string]string {
	byKey := map[string]string{}
	for _, tag := range orZero(tags) {
		byKey[tag.Key] = orZero(tag.Value)
	}
	return byKey
}

func toFilter(body *gpdbapi.DescribeDBInstancesRequest) instance.Filter {
	return instance.Filter{
		RegionID:        body.RegionId,
		IDs:             toIDs(orZero(body.DBInstanceIds)),
		Description:     orZero(body.DBInstanceDescription),
		ResourceGroupID: orZero(body.ResourceGroupId),
		Tags:            toTags(body.Tag),
		Page:            toPage(body.PageNumber, body.PageSize),
	}
}

func toIDs(list string) []string {
	isComma := func(r rune) bool { return r == ',' || r == ' ' }
	return strings.FieldsFunc(list, isComma)
}

func fromInstances(requestID string, instances []instance.Instance, page instance.Page, total int) gpdbapi.DescribeDBInstancesResponse {
	return gpdbapi.DescribeDBInstancesResponse{
		RequestId:        requestID,
		Items:            gpdbapi.DBInstanceItems{DBInstance: mapped(instances, fromInstance)},
		PageNumber:       int32(page.Number),
		PageRecordCount:  int32(len(instances)),
		TotalRecordCount: int32(total),
	}
}

func fromInstance(in instance.Instance) gpdbapi.DBInstance {
	return gpdbapi.DBInstance{
		DBInstanceId:          in.ID,
		DBInstanceDescription: in.Description,
		DBInstanceStatus:      gpdbapi.Running,
		RegionId:              in.RegionID,
		ResourceGroupId:       in.ResourceGroupID,
		CreateTime:            fromTime(in.CreatedAt),
		Tags:                  gpdbapi.DBInstanceTags{Tag: fromTags(in.Tags)},
	}
}

func fromAttribute(in instance.Instance, allowed string) gpdbapi.DBInstanceAttribute {
	return gpdbapi.DBInstanceAttribute{
		DBInstanceId:          in.ID,
		DBInstanceDescription: in.Description,
		DBInstanceStatus:      gpdbapi.Running,
		RegionId:              in.RegionID,
		ResourceGroupId:       in.ResourceGroupID,
		SecurityIPList:        allowed,
		CreationTime:          fromTime(in.CreatedAt),
		Tags:                  gpdbapi.DBInstanceTags{Tag: fromTags(in.Tags)},
	}
}

func fromZone(name string) gpdbapi.Zone { return gpdbapi.Zone{ZoneId: name} }

func fromTags(byKey map[string]string) []common.Tag {
	tags := make([]common.Tag, 0, len(byKey))
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		value := byKey[key]
		tags = append(tags, common.Tag{Key: key, Value: &value})
	}
	return tags
}

func fromPool(pool instance.Pool) gpdbapi.AINodePool {
	return gpdbapi.AINodePool{AINodePoolId: pool.ID, NodeNum: strconv.Itoa(len(pool.Nodes)), AINodeInfos: mapped(pool.Nodes, fromNode)}
}

func fromNode(node instance.Node) gpdbapi.AINode {
	status, object := gpdbapi.Unbound, ""
	if node.ModelServiceID != "" {
		status, object = gpdbapi.Bound, "model_serving"
	}
	return gpdbapi.AINode{
		NodeName:       node.Name,
		NodeSpec:       node.Spec,
		BindStatus:     status,
		BindObject:     object,
		ModelServiceId: node.ModelServiceID,
		ZoneId:         node.Host,
		CreateTime:     fromTime(node.CreatedAt),
		UpdateTime:     fromTime(node.UpdatedAt),
	}
}

const defaultPageSize = 20

func toPage(number, size *int32) instance.Page {
	page := instance.Page{Number: 1, Size: defaultPageSize}
	if number != nil {
		page.Number = int(*number)
	}
	if size != nil {
		page.Size = int(*size)
	}
	return page
}

func toInt(n *int32) *int {
	if n == nil {
		return nil
	}
	value := int(*n)
	return &value
}

func fromTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

func orZero[T any](value *T) T {
	if value == nil {
		var zero T
		return zero
	}
	return *value
}

// orEmpty makes an absent list [] in the answer, never null.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func orEmptyMap(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

func mapped[From, To any](list []From, convert func(From) To) []To {
	converted := make([]To, len(list))
	for i, item := range list {
		converted[i] = convert(item)
	}
	return converted
}
