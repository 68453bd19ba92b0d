// Package policies carries the Casbin model and the policies every account has from the start.
//
// The system policies are RAM policy documents like those a customer writes; the file name is the policy's name:
//
//   - AdministratorAccess: everything in the account.
//   - ReadOnlyAccess: Describe*, List* and the operations that read and show no secret (apig's GetConsumer does).
//   - AliyunGPDBFullAccess: everything on DB instances, AI nodes and model services.
//   - AliyunGPDBReadOnlyAccess: gpdb's Describe* and List*, and engines' logs. Not Get*: GetModelServiceApiKey answers with a secret.
//   - AliyunAPIGFullAccess: everything on gateways, Model APIs, their services and consumers.
//   - AliyunAPIGReadOnlyAccess: all of it to look at, but for the consumers' keys.
//   - AliyunRAMFullAccess: users, keys, groups, roles and policies. Whoever has it can give itself everything else.
//   - AliyunSTSAssumeRoleAccess: assume roles whose own trust policy agrees.
package policies

import (
	"embed"
	"io/fs"
)

// Model is the Casbin model text of internal/access.
//
//go:embed model.conf
var Model string

//go:embed system/*.json
var files embed.FS

// System holds one file NAME.json per system policy.
func System() fs.FS {
	system, err := fs.Sub(files, "system")
	if err != nil {
		panic(err) // the folder is embedded by name just above
	}
	return system
}
