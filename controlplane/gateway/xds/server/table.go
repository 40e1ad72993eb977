// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// chunk bounds the size of a response, in bytes, but for a single larger resource: gRPC's own limit for a message is 4 MiB.
const chunk = 1 << 20

// maxRemovals bounds how many names a response removes: names have less than 300 bytes.
const maxRemovals = chunk / 300

// table holds the resources of one type of one gateway and knows who follows them. A change costs the same whatever the number of
// resources is. It is used with State.mu held.
type table struct {
	typeURL   string
	resources map[string]*discoveryv3.Resource
	// everything are the subscriptions by wildcard, named those by name.
	everything map[*subscription]struct{}
	named      map[string]map[*subscription]struct{}
}

func newTable(typeURL string) *table {
	return &table{
		typeURL: typeURL, resources: map[string]*discoveryv3.Resource{},
		everything: map[*subscription]struct{}{}, named: map[string]map[*subscription]struct{}{},
	}
}

// put serves a resource, which is sent only when it differs from what was served under its name. Its version is a hash of it, so
// that it is the same in every replica and after a restart.
func (t *table) put(name string, message proto.Message) error {
	packed := &anypb.Any{TypeUrl: t.typeURL}
	var err error
	if packed.Value, err = (proto.MarshalOptions{Deterministic: true}).Marshal(message); err != nil {
		return fmt.Errorf("encoding %s: %w", name, err)
	}
	sum := sha256.Sum256(packed.GetValue())
	version := base64.RawStdEncoding.EncodeToString(sum[:12])
	if old := t.resources[name]; old != nil && old.GetVersion() == version {
		return nil
	}
	t.resources[name] = &discoveryv3.Resource{Name: name, Version: version, Resource: packed}
	t.changed(name)
	return nil
}

func (t *table) remove(name string) {
	if t.resources[name] != nil {
		delete(t.resources, name)
		t.changed(name)
	}
}

func (t *table) changed(name string) {
	for s := range t.everything {
		s.owe(name)
	}
	for s := range t.named[name] {
		s.owe(name)
	}
}

// subscription is what one stream follows of one table.
type subscription struct {
	table  *table
	stream *stream
	// wildcard follows everything, besides names.
	wildcard bool
	// legacy is true as long as no request named a resource: that means everything, too, until "*" is unsubscribed.
	legacy bool
	names  map[string]struct{}
	// owed are the names of which the stream needs the present state, queue the order in which it gets them. A name that is no
	// longer owed may still be in the queue.
	owed  map[string]struct{}
	queue []string
	// answer is true when a response is due even if nothing is owed: data planes wait for the first one of each type.
	answer bool
}

// owe has the present state of a name sent, once however often it changes until then.
func (s *subscription) owe(name string) {
	if _, ok := s.owed[name]; ok {
		return
	}
	s.owed[name] = struct{}{}
	s.queue = append(s.queue, name)
	s.stream.ring()
}

// first takes the first request of a stream for the type.
func (s *subscription) first(req *discoveryv3.DeltaDiscoveryRequest) {
	s.answer, s.legacy = true, true
	s.update(req)
	known := req.GetInitialResourceVersions()
	for name := range s.owed {
		if r := s.table.resources[name]; r != nil && r.GetVersion() == known[name] {
			delete(s.owed, name)
		}
	}
	if s.wildcard {
		for name, r := range s.table.resources {
			if r.GetVersion() != known[name] {
				s.owe(name)
			}
		}
		for name := range known {
			if s.table.resources[name] == nil {
				s.owe(name)
			}
		}
	}
	s.stream.ring()
}

// update takes what a request says about subscriptions, as the xDS protocol has it: a name that is subscribed again is sent again.
func (s *subscription) update(req *discoveryv3.DeltaDiscoveryRequest) {
	if len(req.GetResourceNamesSubscribe()) > 0 {
		s.legacy = false
	} else if s.legacy {
		s.follow(true)
	}
	for _, name := range req.GetResourceNamesSubscribe() {
		if name == wildcard {
			if !s.wildcard {
				s.follow(true)
				for name := range s.table.resources {
					s.owe(name)
				}
			}
			continue
		}
		s.names[name] = struct{}{}
		if s.table.named[name] == nil {
			s.table.named[name] = map[*subscription]struct{}{}
		}
		s.table.named[name][s] = struct{}{}
		s.owe(name)
	}
	for _, name := range req.GetResourceNamesUnsubscribe() {
		switch {
		case name == wildcard:
			s.follow(false)
			maps.DeleteFunc(s.owed, func(name string, _ struct{}) bool {
				_, ok := s.names[name]
				return !ok
			})
		case s.wildcard:
			s.forget(name)
			s.owe(name)
		default:
			s.forget(name)
			delete(s.owed, name)
		}
	}
}

// wildcard is the name by which everything is subscribed.
const wildcard = "*"

func (s *subscription) follow(everything bool) {
	s.wildcard = everything
	if everything {
		s.table.everything[s] = struct{}{}
	} else {
		delete(s.table.everything, s)
	}
}

func (s *subscription) forget(name string) {
	delete(s.names, name)
	delete(s.table.named[name], s)
	if len(s.table.named[name]) == 0 {
		delete(s.table.named, name)
	}
}

// end forgets the subscription.
func (s *subscription) end() {
	s.follow(false)
	for name := range s.names {
		s.forget(name)
	}
}

// removals is the next response when what it begins with is gone, up to the first name that isn't; otherwise nil.
func (s *subscription) removals() *discoveryv3.DeltaDiscoveryResponse {
	response := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: s.table.typeURL}
	taken := 0
	for _, name := range s.queue {
		_, owed := s.owed[name]
		if owed && s.table.resources[name] != nil || len(response.GetRemovedResources()) == maxRemovals {
			break
		}
		taken++
		if owed {
			delete(s.owed, name)
			response.RemovedResources = append(response.RemovedResources, name)
		}
	}
	if s.queue = s.queue[taken:]; len(response.GetRemovedResources()) == 0 {
		return nil
	}
	s.answer = false
	return response
}

// next is the next response, or nil when nothing is due.
func (s *subscription) next() *discoveryv3.DeltaDiscoveryResponse {
	if len(s.owed) == 0 && !s.answer {
		return nil
	}
	response := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: s.table.typeURL}
	taken, size := 0, 0
	for _, name := range s.queue {
		if size >= chunk {
			break
		}
		taken++
		if _, ok := s.owed[name]; !ok {
			continue
		}
		delete(s.owed, name)
		size += len(name)
		if r := s.table.resources[name]; r != nil {
			response.Resources = append(response.Resources, r)
			size += proto.Size(r)
		} else {
			response.RemovedResources = append(response.RemovedResources, name)
		}
	}
	if s.queue = s.queue[taken:]; len(s.queue) == 0 {
		s.queue = nil
	}
	s.answer = false
	return response
}
