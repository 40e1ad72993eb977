// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protodelim"
)

// state is the configuration in effect, as it was received. It is kept so that a stream can be resumed
// with what changed, and, in a file, so that a gateway that restarts without its control plane goes on
// as before. Gateway.configMu guards it.
type state struct {
	resources map[string]map[string]*discoveryv3.Resource // by type and name
	changed   bool                                        // since the last snapshot
}

func newState() *state {
	s := &state{resources: map[string]map[string]*discoveryv3.Resource{}}
	for _, t := range types {
		s.resources[t] = map[string]*discoveryv3.Resource{}
	}
	return s
}

func (s *state) put(typeURL string, r *discoveryv3.Resource) {
	s.resources[typeURL][r.GetName()] = r
	s.changed = true
}

func (s *state) remove(typeURL, name string) {
	delete(s.resources[typeURL], name)
	s.changed = true
}

func (s *state) versions(typeURL string) map[string]string {
	versions := make(map[string]string, len(s.resources[typeURL]))
	for name, r := range s.resources[typeURL] {
		versions[name] = r.GetVersion()
	}
	return versions
}

// snapshot returns the configuration as one response per type.
func (s *state) snapshot() []*discoveryv3.DeltaDiscoveryResponse {
	s.changed = false
	var out []*discoveryv3.DeltaDiscoveryResponse
	for _, t := range types {
		response := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: t}
		for _, r := range s.resources[t] {
			response.Resources = append(response.Resources, r)
		}
		out = append(out, response)
	}
	return out
}

// stateFile is the name of the file in the state directory.
const stateFile = "last-good.pb"

// save replaces the file in dir. It holds the gateway's name, then the snapshot, as protobuf messages
// with their lengths. A crash leaves the old file or the new one.
func save(dir, gateway string, snapshot []*discoveryv3.DeltaDiscoveryResponse) (err error) {
	f, err := os.CreateTemp(dir, stateFile+".*")
	if err != nil {
		return fmt.Errorf("saving the configuration: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("saving the configuration: %w", err), f.Close(), os.Remove(f.Name()))
		}
	}()
	out := bufio.NewWriter(f)
	if _, err := protodelim.MarshalTo(out, &corev3.Node{Cluster: gateway}); err != nil {
		return err
	}
	for _, response := range snapshot {
		if _, err := protodelim.MarshalTo(out, response); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, stateFile)); err != nil {
		return err
	}
	return f.Close()
}

// load reads what save wrote; nothing and no error when there is no file yet.
func load(dir, gateway string) ([]*discoveryv3.DeltaDiscoveryResponse, error) {
	f, err := os.Open(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the saved configuration: %w", err)
	}
	defer func() { _ = f.Close() }()
	in := bufio.NewReader(f)
	unlimited := protodelim.UnmarshalOptions{MaxSize: -1}
	var owner corev3.Node
	if err := unlimited.UnmarshalFrom(in, &owner); err != nil {
		return nil, fmt.Errorf("reading the saved configuration: %w", err)
	}
	if owner.GetCluster() != gateway {
		return nil, fmt.Errorf("the saved configuration is of gateway %q", owner.GetCluster())
	}
	var snapshot []*discoveryv3.DeltaDiscoveryResponse
	for {
		response := &discoveryv3.DeltaDiscoveryResponse{}
		err := unlimited.UnmarshalFrom(in, response)
		if errors.Is(err, io.EOF) {
			return snapshot, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading the saved configuration: %w", err)
		}
		snapshot = append(snapshot, response)
	}
}
