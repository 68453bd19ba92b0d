package sdk_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"os"

	"github.com/engineshed/engineshed/sdk"
	"github.com/engineshed/engineshed/sdk/gpdb"
)

// Deploys a model on the first free AI node, asks it something and takes it down again. `engineshed up` must be
// running; the key is in its credentials.json.
func Example() {
	ctx := context.Background()
	client, err := sdk.New(sdk.Config{
		Endpoint:        "http://127.0.0.1:8080",
		AccessKeyID:     os.Getenv("ENGINESHED_ACCESS_KEY_ID"),
		AccessKeySecret: os.Getenv("ENGINESHED_ACCESS_KEY_SECRET"),
	})
	if err != nil {
		log.Fatal(err)
	}
	instance := os.Getenv("ENGINESHED_DB_INSTANCE_ID")

	models, err := client.ListSupportModels(ctx, gpdb.ListSupportModelsRequest{})
	if err != nil {
		log.Fatal(err)
	}
	nodes, err := client.FreeAINodes(ctx, instance, 1)
	if err != nil {
		log.Fatal(err)
	}
	token := rand.Text() // a retry sends it again and gets the same service
	created, err := client.CreateModelService(ctx, gpdb.CreateModelServiceRequest{
		DBInstanceId: instance,
		ModelName:    models.ModelNames.ModelNames[0],
		AiNodes:      nodes,
		ClientToken:  &token,
	})
	if err != nil {
		log.Fatal(err)
	}
	service, err := client.WaitModelService(ctx, instance, created.ModelServiceId, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("base URL for any OpenAI client:", service.PrivateConnectUrl)

	question := []sdk.Message{{Role: "user", Content: "What does an engine shed house?"}}
	err = client.Chat(ctx, service, question, func(text string) error {
		fmt.Print(text)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.DeleteModelService(ctx, gpdb.DeleteModelServiceRequest{DBInstanceId: instance, ModelServiceId: created.ModelServiceId})
	if err != nil {
		log.Fatal(err)
	}
}
