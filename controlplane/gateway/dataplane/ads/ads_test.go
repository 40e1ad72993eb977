// SPDX-License-Identifier: Apache-2.0

package ads

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/bootstrap"
)

// memory is a store that refuses everything with err, when set.
type memory struct {
	versions map[string]string
	err      error
}

func (m *memory) Versions(string) map[string]string { return m.versions }

func (m *memory) Apply(_ string, changed []*discoveryv3.Resource, removed []string) error {
	if m.err != nil {
		return m.err
	}
	for _, r := range changed {
		m.versions[r.GetName()] = r.GetVersion()
	}
	for _, name := range removed {
		delete(m.versions, name)
	}
	return nil
}

func client(t *testing.T, store Store) *Client {
	return &Client{
		Node: bootstrap.Node{Gateway: "default", Instance: "a"}, Agent: "test", Store: store,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

func TestSubscribeSaysWhatIsKnown(t *testing.T) {
	store := &memory{versions: map[string]string{"private|port|20000": "v1"}}
	want := &discoveryv3.DeltaDiscoveryRequest{
		Node:                    &corev3.Node{Id: "default/a", Cluster: "default", UserAgentName: "test"},
		TypeUrl:                 "type",
		InitialResourceVersions: map[string]string{"private|port|20000": "v1"},
	}
	if diff := cmp.Diff(want, client(t, store).subscribe("type"), protocmp.Transform()); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

func TestResponsesAreAnswered(t *testing.T) {
	long := errors.New(strings.Repeat("x", 1<<20))
	for _, tc := range []struct {
		name string
		err  error
		want *statuspb.Status
	}{
		{"accepted", nil, nil},
		{"rejected", errors.New("name: no"), &statuspb.Status{Code: int32(codes.InvalidArgument), Message: "name: no"}},
		{"rejected with much to say", long, &statuspb.Status{Code: int32(codes.InvalidArgument), Message: strings.Repeat("x", 4096)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			store := &memory{versions: map[string]string{"gone": "1"}, err: tc.err}
			got := client(t, store).take(&discoveryv3.DeltaDiscoveryResponse{
				TypeUrl: "type", Nonce: "7", Resources: []*discoveryv3.Resource{{Name: "new", Version: "2"}}, RemovedResources: []string{"gone"},
			})
			want := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: "type", ResponseNonce: "7", ErrorDetail: tc.want}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if _, kept := store.versions["gone"]; kept != (tc.err != nil) {
				t.Errorf("the removed resource is still there: %v", kept)
			}
		})
	}
}
