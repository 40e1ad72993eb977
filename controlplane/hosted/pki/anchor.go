// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"k8s.io/client-go/util/keyutil"
)

// Files in the Secret of an authority, beside its certificates and its key. The ones of a rotation are its only record.
const (
	// SignerFile is the one certificate that signs: kube-controller-manager reads no more than one.
	SignerFile = "signer.crt"
	// ClientsFile are the certificates that clients are verified with. It lacks roots that somebody else's authorities share.
	ClientsFile = "clients.crt"

	nextCert, nextKey = "next.crt", "next.key"
	previousCert      = "previous.crt"
	crossCert         = "cross.crt"
	previousPublic    = "previous.pub"
)

// Phase is how far the replacement of an anchor has come.
type Phase string

const (
	// Settled: there is one authority or key.
	Settled Phase = ""
	// Trusting: the next one is to be trusted everywhere; the present one still signs.
	Trusting Phase = "Trusting"
	// Retiring: the next one signs; the former one is still trusted.
	Retiring Phase = "Retiring"
)

// PhaseOf is the phase of the anchor whose Secret holds data.
func PhaseOf(data map[string][]byte) Phase {
	switch {
	case len(data[nextKey]) > 0:
		return Trusting
	case len(data[previousCert]) > 0, len(data[previousPublic]) > 0:
		return Retiring
	default:
		return Settled
	}
}

// anchor is an authority and what a rotation adds to it.
type anchor struct {
	signer *Authority
	// next is set while Trusting.
	next *Authority
	// previous and cross (PEM) are set while Retiring.
	previous, cross []byte
}

// readAnchor reads what data of an anchor's Secret says. A certificate or key that can't be used, or isn't among those in
// use, is taken from its copy in the same Secret; repaired tells so.
func readAnchor(data map[string][]byte, file string, inUse []*x509.Certificate) (a anchor, repaired bool, err error) {
	certs := [][]byte{data[file+".crt"], data["tls.crt"], data[SignerFile]}
	keys := [][]byte{data[file+".key"], data["tls.key"]}
	signer, first := (*Authority)(nil), error(nil)
search:
	for i, c := range certs {
		for j, key := range keys {
			found, problem := ParseAuthority(c, key)
			known := problem == nil && found.among(inUse)
			if problem == nil && signer == nil || known {
				signer, repaired = found, i+j > 0
			}
			if known || problem == nil && len(inUse) == 0 {
				break search
			}
			if first == nil {
				first = problem
			}
		}
	}
	if signer == nil {
		return anchor{}, false, first
	}
	a = anchor{signer: signer, previous: encode(certificates(data[previousCert])...), cross: encode(certificates(data[crossCert])...)}
	if len(data[nextKey]) > 0 {
		if a.next, err = ParseAuthority(data[nextCert], data[nextKey]); err != nil {
			// Nothing was signed by it, so another one does as well.
			a.next, repaired = nil, true
		}
	}
	// The file of the signer holds also what belongs to the others.
	others := certificates(a.previous)
	if a.next != nil {
		others = append(others, certificates(a.next.bundle())...)
	}
	var rest [][]byte
	for _, c := range certificates(signer.rest) {
		if !slices.ContainsFunc(others, c.Equal) && !c.Equal(signer.cert) {
			rest = append(rest, encode(c))
		}
	}
	signer.rest = join(rest...)
	return a, repaired, nil
}

// replace puts an authority in a's place that somebody wants to be used without telling. Those in use stay trusted, but
// can't vouch for it, since their key is gone.
func (a anchor) replace(inUse []*x509.Certificate) anchor {
	return anchor{signer: a.signer, previous: encode(inUse...)}
}

// stranded are the former authorities whose followers have no reason to trust the one that signs now. What they have
// signed is the only thing those accept.
func (a anchor) stranded(now time.Time) []*Authority {
	if len(a.previous) == 0 || len(a.cross) > 0 {
		return nil
	}
	var out []*Authority
	for _, c := range certificates(a.previous) {
		former := &Authority{cert: c, certPEM: encode(c)}
		if former.verifies(a.signer, now) {
			return nil
		}
		out = append(out, former)
	}
	return out
}

// data is the content of the anchor's Secret. Only the authority that signs for clients has the files for its use.
func (a anchor) data(file string, full bool) map[string][]byte {
	out := map[string][]byte{file + ".crt": a.bundle(), file + ".key": a.signer.keyPEM}
	if full {
		out["tls.crt"], out["tls.key"] = a.bundle(), a.signer.keyPEM
		out[SignerFile], out[ClientsFile] = a.signer.certPEM, a.clients()
	}
	if a.next != nil {
		out[nextCert], out[nextKey] = a.next.bundle(), a.next.keyPEM
	}
	if len(a.previous) > 0 {
		out[previousCert] = a.previous
		if len(a.cross) > 0 {
			out[crossCert] = a.cross
		}
	}
	return out
}

// bundle is what is to be trusted, the authority that signs first.
func (a anchor) bundle() []byte {
	out := join(a.signer.bundle(), a.previous)
	if a.next != nil {
		out = join(out, a.next.bundle())
	}
	return out
}

// clients is the authorities themselves, without what has signed them.
func (a anchor) clients() []byte {
	out := a.signer.certPEM
	if previous := certificates(a.previous); len(previous) > 0 {
		out = join(out, encode(previous[0]))
	}
	if a.next != nil {
		out = join(out, a.next.certPEM)
	}
	return out
}

// chain is what servers send after their certificate.
func (a anchor) chain() []byte { return join(a.cross, a.signer.chain()) }

// begin makes next trusted.
func (a anchor) begin(next *Authority, now time.Time) (anchor, error) {
	if _, err := a.signer.CrossSign(next); err != nil && !a.signer.verifies(next, now) {
		return a, fmt.Errorf("the present authority can't vouch for the next one, since %w: add a root that is common to both to the chain of the present one first", err)
	}
	a.next = next
	return a, nil
}

// advance makes the next step of a rotation.
func (a anchor) advance() anchor {
	switch {
	case a.next != nil:
		// Without it, a common root does the same; begin has seen to that.
		cross, _ := a.signer.CrossSign(a.next) //nolint:errcheck // see above
		return anchor{signer: a.next, previous: a.signer.bundle(), cross: cross}
	default:
		return anchor{signer: a.signer}
	}
}

// tokens is the key that signs tokens of ServiceAccounts, and those that verify them.
type tokens struct {
	key, next, previous []byte
}

func readTokens(data map[string][]byte) (t tokens, repaired bool, err error) {
	t = tokens{key: data["sa.key"], next: data[nextKey], previous: data[previousPublic]}
	if len(t.next) > 0 {
		if _, err := parseKey(t.next); err != nil {
			t.next, repaired = nil, true
		}
	}
	key, err := parseKey(t.key)
	switch {
	case err == nil && beside(key, data["sa.pub"]):
		return t, repaired, nil
	case err == nil:
		// Tokens of the key that was there before stay valid.
		t.previous = data["sa.pub"]
		return t, true, nil
	}
	if len(data["sa.pub"]) == 0 || !bytes.Contains(data["sa.pub"], []byte("PUBLIC KEY")) {
		return t, false, err
	}
	// Tokens that exist stay valid without the key that has signed them.
	t = tokens{previous: data["sa.pub"]}
	_, t.key, err = newKey()
	return t, true, err
}

// beside tells whether a file of public keys has that of the key, or is no such file.
func beside(key crypto.Signer, file []byte) bool {
	keys, err := keyutil.ParsePublicKeysPEM(file)
	if err != nil {
		return true
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return !ok || slices.ContainsFunc(keys, func(k any) bool { return public.Equal(k) })
}

func (t tokens) data() (map[string][]byte, error) {
	var public [][]byte
	for _, keyPEM := range [][]byte{t.key, t.next} {
		if len(keyPEM) == 0 {
			continue
		}
		key, err := parseKey(keyPEM)
		if err != nil {
			return nil, err
		}
		encoded, err := publicKeyPEM(key)
		if err != nil {
			return nil, err
		}
		public = append(public, encoded)
	}
	out := map[string][]byte{"sa.key": t.key, "sa.pub": join(append(public, t.previous)...)}
	if len(t.next) > 0 {
		out[nextKey] = t.next
	}
	if len(t.previous) > 0 {
		out[previousPublic] = t.previous
	}
	return out, nil
}

func (t tokens) advance() (tokens, error) {
	if len(t.next) == 0 {
		return tokens{key: t.key}, nil
	}
	key, err := parseKey(t.key)
	if err != nil {
		return t, err
	}
	public, err := publicKeyPEM(key)
	return tokens{key: t.next, previous: public}, err
}
