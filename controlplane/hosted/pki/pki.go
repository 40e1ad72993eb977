// SPDX-License-Identifier: Apache-2.0

// Package pki says which keys and certificates a tenant needs, and makes those
// that are missing, wrong or about to expire.
//
// It is pure but for the random numbers of new keys: the present time and the
// contents of the existing Secrets are inputs. What is still good is returned
// byte for byte, so that nothing restarts without need.
package pki

import (
	"time"
)

// Names of the Secrets, without the tenant's name and a dash in front.
const (
	// CA signs every certificate of the tenant but those of front proxies.
	// Keys: ca.crt (all that are trusted, the one that signs first), ca.key, the
	// same as tls.crt, tls.key, and SignerFile, ClientsFile.
	CA = "ca"
	// FrontProxyCA signs clients that may name other users in request headers.
	// Keys: front-proxy-ca.crt, front-proxy-ca.key.
	FrontProxyCA = "front-proxy-ca-certificate"
	// ServiceAccount signs the tokens of ServiceAccounts. Keys: sa.pub, sa.key.
	ServiceAccount = "sa-certificate"
	// APIServer is the serving certificate. Keys: apiserver.crt, apiserver.key.
	APIServer = "api-server-certificate"
	// APIServerKubeletClient authenticates the API server to kubelets.
	// Keys: apiserver-kubelet-client.crt, apiserver-kubelet-client.key.
	APIServerKubeletClient = "api-server-kubelet-client-certificate"
	// FrontProxyClient authenticates the API server to extension API servers.
	// Keys: front-proxy-client.crt, front-proxy-client.key.
	FrontProxyClient = "front-proxy-client-certificate"
	// Konnectivity authenticates the konnectivity server to the tenant's API
	// server. Keys: tls.crt, tls.key (type kubernetes.io/tls).
	Konnectivity = "konnectivity-certificate"
	// Metrics authenticates Prometheus to all components, which lets it read metrics
	// and health and nothing else. Keys: tls.crt, tls.key, and ca.crt to verify the API
	// server with (type kubernetes.io/tls).
	Metrics = "metrics-client-certificate"
	// DataStore authenticates the API server to the datastore. It is issued by the
	// storage driver. Keys: ca.crt, server.crt, server.key.
	DataStore = "datastore-certificate"
)

// Anchors are the Secrets that everything else is verified with: certificates of
// nodes, kubeconfigs, tokens. To replace one at once would cut all of that off, so
// their keys are replaced in steps; see Phase.
var Anchors = []string{CA, FrontProxyCA, ServiceAccount}

// Validity and renewal.
const (
	// LeafValidity is how long certificates are valid, as with kubeadm.
	LeafValidity = 365 * 24 * time.Hour
	// CAValidity is how long authorities are valid, as with kubeadm.
	CAValidity = 10 * 365 * 24 * time.Hour
	// LeafRenewBefore is the rest of validity at which a certificate is replaced: a
	// quarter, which leaves three months to notice and repair a broken renewal.
	LeafRenewBefore = LeafValidity / 4
	// CARenewBefore is the rest of validity at which an authority gets a new
	// certificate for the same key. It exceeds LeafValidity, so that no
	// certificate outlives its authority.
	CARenewBefore = LeafValidity + 30*24*time.Hour
	// backdate is how far in the past certificates begin, for clocks that are behind.
	backdate = 5 * time.Minute
)

// Input is what the decision needs.
type Input struct {
	// Existing is the data of the Secrets that exist, by the names of this package.
	Existing map[string]map[string][]byte
	// Rotate holds the names of Secrets whose contents shall be replaced even if
	// they are good. For an anchor it begins a rotation, unless one is under way.
	Rotate map[string]bool
	// Advance holds the anchors whose rotation may take its next step: what the last
	// step has made is in use everywhere.
	Advance map[string]bool
	// InUse has the certificates (PEM) that the tenant's kubeconfigs trust, empty if
	// there are none. An authority in CA that isn't among them was put there by hand.
	InUse []byte
	// Own is the user's authority, which becomes CA. Nil: one is generated.
	Own *Authority
	// SANs of the serving certificate; see ServingSANs.
	SANs SANs
	// Konnectivity tells whether the tenant has a konnectivity server.
	Konnectivity bool
	// Metrics tells whether somebody reads metrics.
	Metrics bool
	// Now is the present time.
	Now time.Time
}

// Result is the complete set of Secrets.
type Result struct {
	// Data of each Secret, by the names of this package.
	Data map[string]map[string][]byte
	// Changed are the names of Secrets whose data differs from the input, sorted.
	Changed []string
	// Notes tell what was done and why, in no order.
	Notes []Note
	// Refused is why the rotation of an anchor that is asked for doesn't begin.
	Refused map[string]string
	// NextRenewal is when Issue has something to do again, if nothing else changes.
	NextRenewal time.Time
	// Expires is when the first certificate ends, authorities apart.
	Expires time.Time
}

// Change is what was done to a Secret.
type Change string

// The values of Change.
const (
	// Issued: it was missing.
	Issued Change = "Issued"
	// Renewed: it was about to expire.
	Renewed Change = "Renewed"
	// Reissued: names, addresses or the authority have changed.
	Reissued Change = "Reissued"
	// Rotated: somebody asked for it.
	Rotated Change = "Rotated"
	// Repaired: it couldn't be read.
	Repaired Change = "Repaired"
	// Replaced: somebody has put another authority in its place, and the key of the former one is lost.
	Replaced Change = "Replaced"
	// TrustsNext: a rotation has begun, the next authority or key is being trusted.
	TrustsNext Change = "TrustsNext"
	// SignsAnew: the next authority or key signs.
	SignsAnew Change = "SignsAnew"
	// Retired: the former authority or key is no longer trusted.
	Retired Change = "Retired"
)

// Note is something that was done.
type Note struct {
	// Secret is the name of the Secret, without the tenant's.
	Secret string
	// Change is what was done.
	Change Change
}

// Authority returns the certificate and key (PEM) that sign the tenant's certificates and kubeconfigs.
func (r Result) Authority() (cert, key []byte) {
	return r.Data[CA]["ca.crt"], r.Data[CA]["ca.key"]
}
