// Command mainjob does the main job with the SDK: it deploys a model, asks it something and takes it down.
//
//	go run ./sdk/mainjob credentials.json "What does an engine shed house?"
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"

	"github.com/engineshed/engineshed/sdk"
	"github.com/engineshed/engineshed/sdk/gpdb"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: mainjob CREDENTIALS_FILE QUESTION")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "mainjob:", err)
		os.Exit(1)
	}
}

// credentials are what `engineshed up` writes into its data directory.
type credentials struct {
	Endpoint, AccessKeyID, AccessKeySecret, DBInstanceID string
}

func run(ctx context.Context, file, question string) error {
	var c credentials
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	client, err := sdk.New(sdk.Config{Endpoint: c.Endpoint, AccessKeyID: c.AccessKeyID, AccessKeySecret: c.AccessKeySecret})
	if err != nil {
		return err
	}
	nodes, err := client.FreeAINodes(ctx, c.DBInstanceID, 1)
	if err != nil {
		return err
	}
	created, err := client.CreateModelService(ctx, gpdb.CreateModelServiceRequest{
		DBInstanceId: c.DBInstanceID, ModelName: "Qwen2.5-0.5B-Instruct", AiNodes: nodes,
	})
	if err != nil {
		return err
	}
	service, err := client.WaitModelService(ctx, c.DBInstanceID, created.ModelServiceId, func(now *gpdb.DescribeModelServiceResponse) {
		fmt.Println(now.ModelServiceId, now.Status)
	})
	if err != nil {
		return err
	}
	err = client.Chat(ctx, service, []sdk.Message{{Role: "user", Content: question}}, func(text string) error {
		_, err := fmt.Print(text)
		return err
	})
	fmt.Println()
	if err != nil {
		return err
	}
	_, err = client.DeleteModelService(ctx, gpdb.DeleteModelServiceRequest{
		DBInstanceId: c.DBInstanceID, ModelServiceId: created.ModelServiceId,
	})
	return err
}
