// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"net/netip"
	"strconv"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacactionv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	networkinputsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

// AccessList is one of the fixed lists of who may connect, each an extension configuration (ECDS) that filter chains of the listeners
// refer to by this name. A list holds the restricted tenants only, so a change of any other tenant leaves it alone, and replacing it
// drains no connection: it is asked about new ones.
type AccessList string

const (
	// PublicHosts is asked about connections that name a host on the public address.
	PublicHosts AccessList = "public-hosts"
	// PrivateHosts is asked about connections that name a host on the private address.
	PrivateHosts AccessList = "private-hosts"
	// PrivatePorts is asked about connections to tenants' own ports.
	PrivatePorts AccessList = "private-ports"
	// PrivateAddresses is asked about connections to tenants' own addresses.
	PrivateAddresses AccessList = "private-addresses"
)

// AccessLists are all of them.
func AccessLists() []AccessList {
	return []AccessList{PublicHosts, PrivateHosts, PrivatePorts, PrivateAddresses}
}

// AccessListOf is the list that connections of a key are looked up in, and the entry. Konnectivity and the API server share it.
func AccessListOf(k route.Key) (list AccessList, entry string) {
	switch {
	case k.Port != 0:
		return PrivatePorts, strconv.Itoa(int(k.Port))
	case k.Address.IsValid():
		return PrivateAddresses, k.Address.String()
	case k.Listener == route.Public:
		return PublicHosts, k.Host
	}
	return PrivateHosts, k.Host
}

// Access is the content of a list: by entry the networks that may connect. What has no entry is open to all: whether there is a tenant
// is not its business.
func Access(list AccessList, sources map[string][]netip.Prefix) (*corev3.TypedExtensionConfig, error) {
	allow, err := decision("allow", rbacactionv3.RBAC_ALLOW)
	if err != nil {
		return nil, err
	}
	matcher := &matcherv3.Matcher{OnNoMatch: allow}
	if len(sources) > 0 {
		tree, err := entries(list, sources, allow)
		if err != nil {
			return nil, err
		}
		matcher.MatcherType = &matcherv3.Matcher_MatcherTree_{MatcherTree: tree}
	}
	config, err := pack(&rbacv3.RBAC{StatPrefix: string(list) + ".", Matcher: matcher})
	if err != nil {
		return nil, err
	}
	return &corev3.TypedExtensionConfig{Name: string(list), TypedConfig: config}, nil
}

// entries is the tree that finds the entry of a connection and compares the client's address with its networks.
func entries(list AccessList, sources map[string][]netip.Prefix, allow *matcherv3.Matcher_OnMatch) (*matcherv3.Matcher_MatcherTree, error) {
	deny, err := decision("deny", rbacactionv3.RBAC_DENY)
	if err != nil {
		return nil, err
	}
	client, err := extension("envoy.matching.inputs.source_ip", &networkinputsv3.SourceIPInput{})
	if err != nil {
		return nil, err
	}
	found := &matcherv3.Matcher_MatcherTree_MatchMap{Map: map[string]*matcherv3.Matcher_OnMatch{}}
	for entry, networks := range sources {
		inside, err := extension("envoy.matching.custom_matchers.trie_matcher", &matcherv3.IPMatcher{
			RangeMatchers: []*matcherv3.IPMatcher_IPRangeMatcher{{Ranges: ranges(networks), OnMatch: allow}},
		})
		if err != nil {
			return nil, err
		}
		found.Map[entry] = &matcherv3.Matcher_OnMatch{OnMatch: &matcherv3.Matcher_OnMatch_Matcher{Matcher: &matcherv3.Matcher{
			MatcherType: &matcherv3.Matcher_MatcherTree_{MatcherTree: &matcherv3.Matcher_MatcherTree{
				Input: client, TreeType: &matcherv3.Matcher_MatcherTree_CustomMatch{CustomMatch: inside},
			}},
			OnNoMatch: deny,
		}}}
	}
	name, input := list.input()
	key, err := extension(name, input)
	if err != nil {
		return nil, err
	}
	return &matcherv3.Matcher_MatcherTree{Input: key, TreeType: &matcherv3.Matcher_MatcherTree_ExactMatchMap{ExactMatchMap: found}}, nil
}

// input is what a list is looked up by. Envoy's RBAC filter takes these and refuses most others.
func (l AccessList) input() (name string, input proto.Message) {
	switch l {
	case PrivatePorts:
		return "envoy.matching.inputs.destination_port", &networkinputsv3.DestinationPortInput{}
	case PrivateAddresses:
		return "envoy.matching.inputs.destination_ip", &networkinputsv3.DestinationIPInput{}
	}
	return "envoy.matching.inputs.server_name", &networkinputsv3.ServerNameInput{}
}

func ranges(networks []netip.Prefix) []*xdscorev3.CidrRange {
	var out []*xdscorev3.CidrRange
	for _, n := range networks {
		out = append(out, &xdscorev3.CidrRange{AddressPrefix: n.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(n.Bits()))})
	}
	return out
}

func decision(name string, action rbacactionv3.RBAC_Action) (*matcherv3.Matcher_OnMatch, error) {
	config, err := extension(name, &rbacactionv3.Action{Name: name, Action: action})
	if err != nil {
		return nil, err
	}
	return &matcherv3.Matcher_OnMatch{OnMatch: &matcherv3.Matcher_OnMatch_Action{Action: config}}, nil
}

func extension(name string, m proto.Message) (*xdscorev3.TypedExtensionConfig, error) {
	config, err := pack(m)
	if err != nil {
		return nil, err
	}
	return &xdscorev3.TypedExtensionConfig{Name: name, TypedConfig: config}, nil
}

// accessFilter has Envoy fetch a list. There is no default: a gateway that can't learn who may connect lets nobody in.
func accessFilter(list AccessList) *listenerv3.Filter {
	return &listenerv3.Filter{Name: string(list), ConfigType: &listenerv3.Filter_ConfigDiscovery{ConfigDiscovery: &corev3.ExtensionConfigSource{
		ConfigSource: overADS(), TypeUrls: []string{resourcev3.APITypePrefix + "envoy.extensions.filters.network.rbac.v3.RBAC"},
	}}}
}

// overADS is the source of resources that come over the stream that everything comes over.
func overADS() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}
