// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// sessions keeps one open connection per host while there is work on it, because logging in costs more than a call.
type sessions struct {
	mu   sync.Mutex
	open map[types.NamespacedName]session
}

type session struct {
	driver driver.Driver
	// uid and generation of the host that the connection was made for.
	uid        types.UID
	generation int64
}

func (s *sessions) find(host *infrav1.RackHost) driver.Driver {
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, ok := s.open[client.ObjectKeyFromObject(host)]; ok && have.uid == host.UID && have.generation == host.Generation {
		return have.driver
	}
	return nil
}

func (s *sessions) put(host *infrav1.RackHost, d driver.Driver) {
	key := client.ObjectKeyFromObject(host)
	s.drop(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[types.NamespacedName]session{}
	}
	s.open[key] = session{driver: d, uid: host.UID, generation: host.Generation}
}

// drop closes the connection to a host, if there is one. What runs on the host goes on.
func (s *sessions) drop(key types.NamespacedName) {
	s.mu.Lock()
	have, ok := s.open[key]
	delete(s.open, key)
	s.mu.Unlock()
	if ok {
		// Nothing is lost with a connection that fails to close.
		_ = have.driver.Close()
	}
}

// call runs f with a connection to the host, and keeps the conditions about reaching it. The error is f's own, or one for
// package phase when the host could not be reached or refused us.
func (r *Reconciler) call(ctx context.Context, s *scope, f func(context.Context, driver.Driver) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.options.CallTimeout)
	defer cancel()
	d := r.sessions.find(s.host)
	if d == nil {
		target, err := r.target(ctx, s.host)
		if err != nil {
			return err
		}
		if d, err = r.dial(ctx, target); err != nil {
			return r.refused(s, err)
		}
		r.sessions.put(s.host, d)
	}
	err := f(ctx, d)
	if err == nil {
		mark(s.host, infrav1.HostKeyVerifiedCondition, metav1.ConditionTrue, infrav1.HostVerifiedReason, "")
		mark(s.host, infrav1.HostSSHReachableCondition, metav1.ConditionTrue, infrav1.HostVerifiedReason, "")
		return nil
	}
	return r.refused(s, err)
}

func (r *Reconciler) dial(ctx context.Context, target driver.Target) (driver.Driver, error) {
	ctx, cancel := context.WithTimeout(ctx, r.options.DialTimeout)
	defer cancel()
	return r.Dial(ctx, target)
}

// target reads the credentials anew for each connection, so that a corrected Secret is used by the next attempt.
func (r *Reconciler) target(ctx context.Context, host *infrav1.RackHost) (driver.Target, error) {
	ssh := host.Spec.SSH
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: host.Namespace, Name: ssh.PrivateKeySecretRef.Name}
	missing := func(what string) error {
		message := fmt.Sprintf("%s, which spec.ssh.privateKeySecretRef names; create it with the private key of user %s", what, ssh.User)
		mark(host, infrav1.HostSSHReachableCondition, metav1.ConditionFalse, infrav1.HostCredentialsMissingReason, message)
		return phase.WaitFor(r.options.RetryInterval, infrav1.HostCredentialsMissingReason, "%s", message)
	}
	if err := r.Live.Get(ctx, key, secret); apierrors.IsNotFound(err) {
		return driver.Target{}, missing("there is no Secret " + key.String())
	} else if err != nil {
		return driver.Target{}, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	private := secret.Data[ssh.PrivateKeySecretRef.Key]
	if len(private) == 0 {
		return driver.Target{}, missing(fmt.Sprintf("Secret %s has no key %q", key, ssh.PrivateKeySecretRef.Key))
	}
	return driver.Target{Address: ssh.Address, Port: ssh.Port, User: ssh.User, PrivateKey: private, HostKeys: ssh.HostKeys}, nil
}

// refused turns what a driver says into conditions and an outcome. Errors that are not about reaching the host come
// back as they are.
func (r *Reconciler) refused(s *scope, err error) error {
	var (
		unreachable *driver.UnreachableError
		auth        *driver.AuthFailedError
		mismatch    *driver.HostKeyMismatchError
		unpinned    *driver.HostKeyUnpinnedError
		target      *driver.InvalidTargetError
	)
	var reason, message string
	verified, retry := metav1.ConditionUnknown, r.options.RetryInterval
	switch {
	case errors.As(err, &unpinned):
		verified, reason = metav1.ConditionFalse, infrav1.HostKeyUnpinnedReason
		message = "spec.ssh.hostKeys is empty, so no connection is made; put the content of the host's /etc/ssh/ssh_host_ed25519_key.pub there"
	case errors.As(err, &mismatch):
		verified, reason = metav1.ConditionFalse, infrav1.HostKeyMismatchReason
		message = err.Error() + "; nothing was sent to it. Compare with ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on its console and correct spec.ssh.hostKeys or spec.ssh.address"
	case errors.As(err, &auth):
		verified, reason = metav1.ConditionTrue, infrav1.HostAuthenticationFailedReason
		message = fmt.Sprintf("%v; check spec.ssh.user, the key in Secret %s and, unless the user is root, sudo without password",
			err, s.host.Spec.SSH.PrivateKeySecretRef.Name)
	case errors.As(err, &target):
		reason = infrav1.HostInvalidTargetReason
		message = fmt.Sprintf("%v; correct spec.ssh or Secret %s", err, s.host.Spec.SSH.PrivateKeySecretRef.Name)
	case errors.As(err, &unreachable), errors.Is(err, context.DeadlineExceeded):
		reason, retry = infrav1.HostUnreachableReason, r.options.ReconnectInterval
		message = fmt.Sprintf("no answer from %s port %d: %v", s.host.Spec.SSH.Address, s.host.Spec.SSH.Port, err)
	default:
		return err
	}
	r.sessions.drop(client.ObjectKeyFromObject(s.host))
	mark(s.host, infrav1.HostKeyVerifiedCondition, verified, reason, message)
	mark(s.host, infrav1.HostSSHReachableCondition, metav1.ConditionFalse, reason, message)
	return phase.WaitFor(retry, reason, "%s", message)
}

// inspect looks at the host: what it is, whose it is and, when no operation holds it, what is left on it.
func (r *Reconciler) inspect(ctx context.Context, s *scope) error {
	if err := r.probe(ctx, s); err != nil {
		return err
	}
	s.report = driver.Report{}
	if s.facts.OperationID != "" {
		return nil
	}
	err := r.call(ctx, s, func(ctx context.Context, d driver.Driver) (err error) {
		s.report, err = d.VerifyClean(ctx)
		return err
	})
	if err == nil && s.report.Clean() && s.facts.KubeletActive {
		s.report.Findings = []string{"the kubelet is running"}
	}
	return err
}

func (r *Reconciler) probe(ctx context.Context, s *scope) error {
	err := r.call(ctx, s, func(ctx context.Context, d driver.Driver) (err error) {
		s.facts, err = d.Probe(ctx)
		return err
	})
	if err != nil {
		return err
	}
	s.host.Status.Facts = record(s.facts)
	return nil
}

// usable tells whether the host has what joining a cluster needs.
func (r *Reconciler) usable(s *scope) error {
	if len(s.facts.Missing) == 0 {
		return nil
	}
	return phase.WaitFor(r.options.RetryInterval, infrav1.HostProgramsMissingReason,
		"the host lacks %s; install them", strings.Join(s.facts.Missing, ", "))
}

func record(f driver.Facts) *infrav1.HostFacts {
	out := &infrav1.HostFacts{
		Hostname: f.Hostname, CPUs: int32(f.CPUs), Memory: *resource.NewQuantity(f.MemoryBytes, resource.BinarySI),
		Addresses: f.Addresses, OS: f.OS, Kernel: f.Kernel, Architecture: f.Architecture,
		MachineID: f.MachineID, BootID: f.BootID, KubeadmVersion: f.KubeadmVersion,
	}
	for _, disk := range f.Disks {
		out.Disks = append(out.Disks, infrav1.HostDisk{
			Name: disk.Name, Size: *resource.NewQuantity(disk.SizeBytes, resource.BinarySI), Rotational: disk.Rotational,
		})
	}
	return out
}
