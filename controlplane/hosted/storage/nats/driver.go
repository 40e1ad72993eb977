// SPDX-License-Identifier: Apache-2.0

// Package nats stores tenants in one NATS with JetStream: an account for each of
// them, in which there is a bucket that kine keeps its keys in. An account sees
// nothing of others, so a tenant can't even name what belongs to another.
//
// Accounts are not in the server's configuration but signed tokens that it is sent
// (operator mode). The engine has a signing key of the operator, and a user of
// the system account, who may send them. Whose an account is is in its description.
//
// Nobody holds the key of an account: its name is a hash of the schema, so it is
// found without a list. What signs the token of a tenant's user is a key that the
// account names and that was thrown away after that one signature; to give a
// tenant other credentials is to name another key. Beside it there is one for the
// engine, which follows from the operator's key, the schema, and the attempt to
// move the tenant that holds the account, if there is one.
package nats

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/clientcert"
)

// Name is the value of DataStore.spec.driver that selects this package.
const Name = string(kamajiv1alpha1.DriverNATS)

const (
	// callTimeout bounds the set-up of a tenant, which is a few requests.
	callTimeout = 15 * time.Second
	// dialTimeout bounds the attempt at one address.
	dialTimeout = 3 * time.Second
	// deleteTimeout bounds the deletion of a bucket: its files are unlinked.
	deleteTimeout = 60 * time.Second
	// smallestPayload is what a message must be able to hold: an object of 1.5 MiB,
	// which is the most that etcd takes, and what kine adds to it.
	smallestPayload = 1600 << 10
	// locks is how many tenants can be worked on at once, roughly.
	locks = 64
)

type driver struct {
	config storage.Config
	// issuer is nil for a DataStore without the private key of its authority.
	issuer *clientcert.Issuer
	// operator signs accounts; public is its public half.
	operator nkeys.KeyPair
	public   string
	// admin are the options of the system account's user.
	admin []client.Option

	mu     sync.Mutex
	system *client.Conn
	// lists are the keys of tenants that are read page by page.
	lists map[string]listing
	// writing guards what is read of an account until it is written: two owners may
	// ask for one schema.
	writing [locks]sync.Mutex
}

var _ storage.Driver = (*driver)(nil)

// Open checks the configuration. It does not dial.
func Open(config storage.Config) (storage.Driver, error) {
	n := config.NATS
	if n == nil {
		return nil, storage.Errorf(storage.ReasonInvalid,
			"DataStore %s: set spec.nats: what spec.basicAuth names is one account, which all tenants would share; NATS keeps them apart only in operator mode", config.Name)
	}
	d := &driver{config: config}
	var err error
	if d.operator, err = nkeys.FromSeed(n.OperatorSeed); err != nil {
		// The error may hold the seed.
		return nil, storage.Errorf(storage.ReasonInvalid, "DataStore %s: spec.nats.operatorSeed is not a seed", config.Name)
	}
	if d.public, err = d.operator.PublicKey(); err != nil || !nkeys.IsValidPublicOperatorKey(d.public) {
		return nil, storage.Errorf(storage.ReasonInvalid, "DataStore %s: spec.nats.operatorSeed must be that of an operator's key, beginning with SO", config.Name)
	}
	if _, _, err := login(n.SystemCredentials); err != nil {
		return nil, storage.Errorf(storage.ReasonInvalid, "DataStore %s: spec.nats.systemCredentials must be a credentials file: a token and the seed of its user", config.Name)
	}
	if len(config.CAKey) > 0 {
		if d.issuer, err = clientcert.New(config); err != nil {
			return nil, err
		}
	}
	d.admin, err = d.options(n.SystemCredentials, config.Certificate, config.Key)
	return d, err
}

// login takes a credentials file apart.
func login(file []byte) (*jwt.UserClaims, nkeys.KeyPair, error) {
	token, err := jwt.ParseDecoratedJWT(file)
	if err != nil {
		return nil, nil, err
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return nil, nil, err
	}
	key, err := jwt.ParseDecoratedUserNKey(file)
	return claims, key, err
}

// options are those of a connection with a credentials file.
func (d *driver) options(file, certificate, key []byte) ([]client.Option, error) {
	as := d.config
	as.Certificate, as.Key = certificate, key
	secured, err := clientcert.TLS(as)
	if err != nil {
		return nil, err
	}
	out := []client.Option{
		client.Name("kamaji"), client.UserCredentialBytes(file), client.Timeout(dialTimeout),
		// A lost connection is made anew by whoever needs it next, and hears why it can't be.
		client.NoReconnect(), client.NoCallbacksAfterClientClose(),
		// Without it such errors are printed.
		client.ErrorHandler(func(*client.Conn, *client.Subscription, error) {}),
	}
	if secured != nil {
		out = append(out, client.Secure(secured))
	}
	return out, nil
}

// addresses are those of all servers.
func (d *driver) addresses() string {
	return "nats://" + strings.Join(d.config.Endpoints, ",nats://")
}

// Endpoint implements storage.Driver. It holds no secret: the login is in a file.
// kine takes parameters from the first address.
func (d *driver) Endpoint(tenant storage.Tenant, _ storage.Credentials) string {
	query := url.Values{
		"bucket": {tenant.Schema}, "credsFile": {storage.KineFiles + "/" + storage.LoginFile},
		"replicas": {strconv.Itoa(d.config.NATS.Replicas)}, "revHistory": {strconv.Itoa(history)},
		// kine would start a server of its own.
		"noEmbed": {""},
	}
	first, others, _ := strings.Cut(d.addresses(), ",")
	out := first + "?" + query.Encode()
	if others != "" {
		out += "," + others
	}
	return out
}

// Close implements storage.Driver.
func (d *driver) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.system != nil {
		d.system.Close()
	}
	return nil
}

// Credentials implements storage.Driver.
func (d *driver) Credentials(tenant storage.Tenant, current storage.Credentials, now time.Time) (storage.Credentials, error) {
	if err := d.admissible(tenant); err != nil {
		return storage.Credentials{}, err
	}
	current.Password = ""
	if _, err := signer(tenant, current.Login); err != nil {
		file, err := newLogin(tenant)
		if err != nil {
			return storage.Credentials{}, &storage.Error{Reason: storage.ReasonInternal, Message: "making a token for user " + tenant.User, Err: err}
		}
		current.Login = file
	}
	if d.issuer != nil {
		return d.issuer.Renew(tenant, current, now)
	}
	current.CA, current.Certificate, current.Key = d.config.CA, nil, nil
	return current, nil
}

// newLogin makes a key, signs the token of a user with it, and forgets the key.
func newLogin(tenant storage.Tenant) ([]byte, error) {
	signing, err := nkeys.CreateAccount()
	if err != nil {
		return nil, err
	}
	// What it may do is up to the account.
	return loginBy(signing, tenant, tenant.User, jwt.Permissions{})
}

// loginBy signs the token of a user in a tenant's account.
func loginBy(signing nkeys.KeyPair, tenant storage.Tenant, name string, permissions jwt.Permissions) ([]byte, error) {
	user, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	public, err := user.PublicKey()
	if err != nil {
		return nil, err
	}
	seed, err := user.Seed()
	if err != nil {
		return nil, err
	}
	claims := jwt.NewUserClaims(public)
	claims.Name, claims.IssuerAccount, claims.Permissions = name, account(tenant.Schema), permissions
	token, err := claims.Encode(signing)
	if err != nil {
		return nil, err
	}
	return jwt.FormatUserConfig(token, seed)
}

// signer is the key that has signed a tenant's token. It fails for a file that is
// damaged or somebody else's.
func signer(tenant storage.Tenant, file []byte) (string, error) {
	claims, key, err := login(file)
	if err != nil {
		return "", err
	}
	public, err := key.PublicKey()
	if err != nil {
		return "", err
	}
	if claims.Subject != public || claims.IssuerAccount != account(tenant.Schema) || claims.Name != tenant.User || claims.Expires != 0 {
		return "", storage.Errorf(storage.ReasonInvalid, "the token is not that of user %s in schema %s", tenant.User, tenant.Schema)
	}
	return claims.Issuer, nil
}

// Probe implements storage.Driver. A request to delete no account shows everything
// at once: only the system account may ask for it, only a resolver that stores
// accounts answers, and it takes a signature of the operator and leave to delete.
func (d *driver) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	nc, err := d.connected()
	if err != nil {
		return err
	}
	if !nc.AuthRequired() {
		return storage.Errorf(storage.ReasonAuthDisabled,
			"NATS of DataStore %s lets everybody in, so every tenant could read every other: configure an operator", d.config.Name)
	}
	if most := nc.MaxPayload(); most < smallestPayload {
		return storage.Errorf(storage.ReasonInvalid,
			"NATS of DataStore %s takes messages of %d bytes at most, and an object of Kubernetes can need %d: set max_payload: 2MB in its configuration", d.config.Name, most, smallestPayload)
	}
	answers, err := d.forget(ctx)
	if err != nil {
		return err
	}
	for _, a := range answers {
		if a.Server.JetStream {
			return nil
		}
	}
	return storage.Errorf(storage.ReasonInvalid, "NATS of DataStore %s has no server with JetStream: enable it in the configuration", d.config.Name)
}

// answer of a server to a change of accounts.
type answer struct {
	Server struct {
		JetStream bool `json:"jetstream"`
	} `json:"server"`
	Error *struct {
		Description string `json:"description"`
	} `json:"error"`
}

// answers decodes what servers said. The error is that of the first that refused.
func (d *driver) answers(raw [][]byte, doing string) ([]answer, error) {
	out := make([]answer, 0, len(raw))
	for _, text := range raw {
		var a answer
		if err := json.Unmarshal(bytes.TrimSpace(text), &a); err != nil {
			return nil, d.explain(err, doing)
		}
		if a.Error != nil {
			return nil, d.refused(a.Error.Description, doing)
		}
		out = append(out, a)
	}
	return out, nil
}
