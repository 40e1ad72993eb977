// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"testing"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

type closing struct {
	storage.Driver
	closed int
}

func (c *closing) Close() error { c.closed++; return nil }

func TestPoolSharesAndRetires(t *testing.T) {
	var opened []*closing
	pool := storage.NewPool(storage.Openers{"etcd": func(storage.Config) (storage.Driver, error) {
		opened = append(opened, &closing{})
		return opened[len(opened)-1], nil
	}})
	config := storage.Config{Name: "default", Driver: "etcd", Endpoints: []string{"a:1"}}
	first, release1, err := pool.Acquire(config)
	if err != nil {
		t.Fatal(err)
	}
	second, release2, err := pool.Acquire(config)
	if err != nil {
		t.Fatal(err)
	}
	if first != second {
		t.Error("the same configuration got two drivers")
	}
	config.Endpoints = []string{"a:1", "b:1"}
	third, release3, err := pool.Acquire(config)
	if err != nil {
		t.Fatal(err)
	}
	if third == first {
		t.Error("a changed configuration got the old driver")
	}
	if opened[0].closed != 0 {
		t.Error("a driver was closed while in use")
	}
	release1()
	release1()
	if opened[0].closed != 0 {
		t.Error("releasing twice counted twice")
	}
	release2()
	if opened[0].closed != 1 {
		t.Errorf("the replaced driver was closed %d times", opened[0].closed)
	}
	release3()
	if opened[1].closed != 0 {
		t.Error("a current driver was closed when idle")
	}
	pool.Forget("default")
	if opened[1].closed != 1 {
		t.Errorf("a forgotten driver was closed %d times", opened[1].closed)
	}
}

func TestPoolUnknownDriver(t *testing.T) {
	_, _, err := storage.NewPool(nil).Acquire(storage.Config{Name: "pg", Driver: "PostgreSQL"})
	if storage.ReasonOf(err) != storage.ReasonDriverNotSupported {
		t.Errorf("got %v", err)
	}
}

func TestConfigHash(t *testing.T) {
	base := storage.Config{Driver: "etcd", Endpoints: []string{"a:1", "b:1"}, CA: []byte("x"), CAKey: []byte("y")}
	moved := base
	moved.CA, moved.CAKey = []byte("xy"), nil
	joined := base
	joined.Endpoints = []string{"a:1b:1"}
	renamed := base
	renamed.Name = "other"
	if base.Hash() == moved.Hash() || base.Hash() == joined.Hash() {
		t.Error("different configurations share a hash")
	}
	if base.Hash() != renamed.Hash() {
		t.Error("the name is not part of the connection")
	}
}
