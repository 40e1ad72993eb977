// SPDX-License-Identifier: Apache-2.0

package hosts

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cache"
)

// PrivateKey is the file with the lab's private key, which every host lets in
// as root, in OpenSSH's format. It's made once, for this machine.
func PrivateKey() (string, error) {
	dir, err := cache.Dir()
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "lab", "id_ed25519")
	return file, cache.Make(file, func(temporary string) error {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		block, err := ssh.MarshalPrivateKey(private, "kamaji-lab")
		if err != nil {
			return fmt.Errorf("encoding the lab's key: %w", err)
		}
		return os.WriteFile(temporary, pem.EncodeToMemory(block), 0o600)
	})
}

// authorized is the lab's public key as a line of authorized_keys.
func authorized() (string, error) {
	file, err := PrivateKey()
	if err != nil {
		return "", err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	signer, err := ssh.ParsePrivateKey(content)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", file, err)
	}
	return string(ssh.MarshalAuthorizedKey(signer.PublicKey())), nil
}
