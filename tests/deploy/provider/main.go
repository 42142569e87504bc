// A provider that knows what AWS's says of the resources in deploy/ecs, and can do nothing: neither
// `terraform validate` nor `terraform test` with mock_provider asks for more.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"log"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// The resource_schemas of version 6.25.0, as `terraform providers schema -json` writes them.
//
//go:embed schema.json
var schemas []byte

type block struct {
	Attributes map[string]struct {
		Type                         json.RawMessage
		Required, Optional, Computed bool
	}
	BlockTypes map[string]struct {
		Nesting  string `json:"nesting_mode"`
		Block    block
		MinItems int64 `json:"min_items"`
		MaxItems int64 `json:"max_items"`
	} `json:"block_types"`
}

var nestings = map[string]tfprotov6.SchemaNestedBlockNestingMode{
	"single": tfprotov6.SchemaNestedBlockNestingModeSingle,
	"list":   tfprotov6.SchemaNestedBlockNestingModeList,
	"set":    tfprotov6.SchemaNestedBlockNestingModeSet,
}

func (b block) schema() (*tfprotov6.SchemaBlock, error) {
	made := &tfprotov6.SchemaBlock{}
	for name, a := range b.Attributes {
		kind, err := tftypes.ParseJSONType(a.Type) //nolint:staticcheck // nothing else reads them
		if err != nil {
			return nil, err
		}
		made.Attributes = append(made.Attributes, &tfprotov6.SchemaAttribute{
			Name: name, Type: kind, Required: a.Required, Optional: a.Optional, Computed: a.Computed,
		})
	}
	for name, n := range b.BlockTypes {
		inner, err := n.Block.schema()
		if err != nil {
			return nil, err
		}
		made.BlockTypes = append(made.BlockTypes, &tfprotov6.SchemaNestedBlock{
			TypeName: name, Block: inner, Nesting: nestings[n.Nesting],
			MinItems: n.MinItems, MaxItems: n.MaxItems,
		})
	}
	return made, nil
}

// provider ends on any question that has no answer below.
type provider struct{ tfprotov6.ProviderServer }

func (provider) GetProviderSchema(context.Context, *tfprotov6.GetProviderSchemaRequest) (*tfprotov6.GetProviderSchemaResponse, error) {
	var resources map[string]struct{ Block block }
	if err := json.Unmarshal(schemas, &resources); err != nil {
		return nil, err
	}
	answer := &tfprotov6.GetProviderSchemaResponse{
		Provider:        &tfprotov6.Schema{Block: &tfprotov6.SchemaBlock{}},
		ResourceSchemas: map[string]*tfprotov6.Schema{},
	}
	for name, resource := range resources {
		block, err := resource.Block.schema()
		if err != nil {
			return nil, err
		}
		answer.ResourceSchemas[name] = &tfprotov6.Schema{Block: block}
	}
	return answer, nil
}

func (provider) ValidateProviderConfig(_ context.Context, asked *tfprotov6.ValidateProviderConfigRequest) (*tfprotov6.ValidateProviderConfigResponse, error) {
	return &tfprotov6.ValidateProviderConfigResponse{PreparedConfig: asked.Config}, nil
}

func (provider) ValidateResourceConfig(context.Context, *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	return &tfprotov6.ValidateResourceConfigResponse{}, nil
}

func (provider) StopProvider(context.Context, *tfprotov6.StopProviderRequest) (*tfprotov6.StopProviderResponse, error) {
	return &tfprotov6.StopProviderResponse{}, nil
}

func main() {
	err := tf6server.Serve("hashicorp/aws", func() tfprotov6.ProviderServer { return provider{} })
	if err != nil {
		log.Fatal(err)
	}
}
