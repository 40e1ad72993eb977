// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeconfig"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// certificates issues what is missing, wrong or about to expire, and takes the
// next step of rotations.
func (r *Reconciler) certificates(ctx context.Context, s *scope) error {
	sans, err := pki.ServingSANs(s.tenant, s.endpoint)
	if err != nil {
		return phase.Fatal(kamajiv1alpha1.InvalidSpecReason, "%v", err)
	}
	var (
		result   pki.Result
		progress rotation
	)
	own, wrong, err := r.own(ctx, s)
	if err != nil {
		return err
	}
	if wrong != "" && len(s.existing[pki.CA]) == 0 {
		return phase.Wait(kamajiv1alpha1.AuthorityUnusableReason, "spec.certificates.authority: %s", wrong)
	}
	if err := r.public(ctx, s); err != nil {
		return err
	}
	err = r.generate(ctx, s, func() (bool, error) {
		if progress, err = r.progress(ctx, s); err != nil {
			return false, err
		}
		result, err = pki.Issue(pki.Input{
			Existing: s.existing, Rotate: s.rotate, Advance: progress.advance, Own: own, SANs: sans,
			InUse:        kubeconfig.Trusted(s.existing[kubeconfig.Admin]),
			Konnectivity: s.tenant.Spec.Addons.Konnectivity != nil, Metrics: s.tenant.Spec.ControlPlane.Monitoring != nil, Now: s.now,
		})
		if err != nil {
			// Neither waiting nor trying again helps, but a restored Secret does, and it wakes the tenant.
			err = phase.Wait(kamajiv1alpha1.CorruptSecretReason, "%v: restore it from a backup, or delete the Secret to have a new one made; "+
				"then nodes have to join again and kubeconfigs are replaced", err)
		}
		return len(result.Changed) > 0, err
	})
	if err != nil {
		return err
	}
	if wrong != "" {
		result.Refused[pki.CA] = "spec.certificates.authority: " + wrong
	}
	progress.follow(result)
	s.rotation = &progress
	r.refuse(s, result.Refused)
	s.notes = append(s.notes, result.Notes...)
	maps.Copy(s.secrets, result.Data)
	s.due(result.NextRenewal)
	recordExpiry(s.tenant, pki.Expiry(result.Data[pki.CA][pki.SignerFile]), result.Expires)
	return nil
}

// kubeconfigs makes those of people and of components. Those found good are not looked through again before one is due,
// or something that they are made of is another: reading and writing their YAML is the dearest thing that a pass computes.
func (r *Reconciler) kubeconfigs(ctx context.Context, s *scope) error {
	var (
		result kubeconfig.Result
		public *endpoint.Server
	)
	if p := s.tenant.PublicCertificate(); p != nil && p.KubeconfigTrust == kamajiv1alpha1.KubeconfigTrustSystemRoots {
		public = &endpoint.Server{Host: s.public.Hostnames[0], Port: s.endpoint.Client.Port}
	}
	in := kubeconfig.Input{
		Existing: s.existing, Rotate: s.rotate,
		CACert: s.secrets[pki.CA]["ca.crt"], CAKey: s.secrets[pki.CA]["ca.key"],
		KonnectivityCert: s.secrets[pki.Konnectivity]["tls.crt"], KonnectivityKey: s.secrets[pki.Konnectivity]["tls.key"],
		Cluster: s.tenant.Name, Endpoint: s.endpoint, Public: public, LocalPort: s.tenant.Port(),
	}
	timeless, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encoding what kubeconfigs are made of: %w", err)
	}
	key, inputs := memoryKey{tenant: client.ObjectKeyFromObject(s.tenant), task: taskKubeconfigs}, []string{string(timeless)}
	if good, until := r.memory.done(key, inputs, s.now); good {
		for _, name := range in.Secrets() {
			s.secrets[name] = s.existing[name]
		}
		s.due(until)
		return nil
	}
	err = r.generate(ctx, s, func() (bool, error) {
		in.Existing, in.Rotate, in.Now = s.existing, s.rotate, s.now
		var err error
		result, err = kubeconfig.Issue(in)
		return len(result.Changed) > 0, err
	})
	if err != nil {
		return fmt.Errorf("issuing kubeconfigs: %w", err)
	}
	if len(result.Changed) == 0 && !s.confirmed {
		r.memory.note(key, inputs, result.NextRenewal)
	}
	s.notes = append(s.notes, result.Notes...)
	maps.Copy(s.secrets, result.Data)
	s.due(result.NextRenewal)
	return nil
}

// stamp writes down in annotations what was done at somebody's request. That for
// an anchor stays as it is until a rotation has begun, or ended.
func (s *scope) stamp() {
	now := s.now.UTC().Format(timeFormat)
	for name := range s.rotate {
		if !slices.Contains(pki.Anchors, name) || slices.Contains(s.notes, pki.Note{Secret: name, Change: pki.TrustsNext}) {
			s.rotated[name] = now
		}
	}
	for name, value := range s.retire {
		if value == kamajiv1alpha1.RetireNow && slices.Contains(s.notes, pki.Note{Secret: name, Change: pki.Retired}) {
			s.retired[name] = now
		}
	}
	for _, name := range pki.Anchors {
		if pki.PhaseOf(s.secrets[name]) != pki.Retiring {
			delete(s.since, name)
		}
	}
}
