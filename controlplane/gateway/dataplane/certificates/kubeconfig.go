// SPDX-License-Identifier: Apache-2.0

package certificates

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// cluster is where and how a Secret is read.
type cluster struct {
	// server is the URL of the API server, name the one in its certificate when it isn't the host of server.
	server, name string
	// ca is the authority of the server in PEM, token what the reader proves itself by.
	ca    []byte
	token string
}

// kubeconfig is the part of one that is understood: a server with its authority, and a token. There is no need for a client library.
type kubeconfig struct {
	CurrentContext string `json:"current-context"`
	Contexts       []struct {
		Name    string                         `json:"name"`
		Context struct{ Cluster, User string } `json:"context"`
	} `json:"contexts"`
	Clusters []struct {
		Name    string `json:"name"`
		Cluster struct {
			Server string `json:"server"`
			Name   string `json:"tls-server-name"`
			CAData []byte `json:"certificate-authority-data"`
			CAFile string `json:"certificate-authority"`
		} `json:"cluster"`
	} `json:"clusters"`
	Users []struct {
		Name string `json:"name"`
		User struct {
			Token     string `json:"token"`
			TokenFile string `json:"tokenFile"`
		} `json:"user"`
	} `json:"users"`
}

// loadKubeconfig reads the current context of a kubeconfig. Files that it names are relative to it.
func loadKubeconfig(path string) (cluster, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return cluster{}, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	var k kubeconfig
	if err := yaml.Unmarshal(data, &k); err != nil {
		return cluster{}, fmt.Errorf("reading the kubeconfig %s: %w", path, err)
	}
	out, err := k.current(filepath.Dir(path))
	if err != nil {
		return cluster{}, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return out, nil
}

func (k *kubeconfig) current(dir string) (out cluster, err error) {
	clusterName, userName := "", ""
	for _, c := range k.Contexts {
		if c.Name == k.CurrentContext {
			clusterName, userName = c.Context.Cluster, c.Context.User
		}
	}
	if clusterName == "" || userName == "" {
		return cluster{}, fmt.Errorf("current-context %q names no context with a cluster and a user", k.CurrentContext)
	}
	for _, c := range k.Clusters {
		if c.Name != clusterName {
			continue
		}
		out.server, out.name = strings.TrimSuffix(c.Cluster.Server, "/"), c.Cluster.Name
		if out.ca, err = content(c.Cluster.CAData, dir, c.Cluster.CAFile); err != nil {
			return cluster{}, fmt.Errorf("certificate-authority: %w", err)
		}
	}
	for _, u := range k.Users {
		if u.Name != userName {
			continue
		}
		token, err := content([]byte(u.User.Token), dir, u.User.TokenFile)
		if err != nil {
			return cluster{}, fmt.Errorf("tokenFile: %w", err)
		}
		out.token = strings.TrimSpace(string(token))
	}
	switch {
	case !strings.HasPrefix(out.server, "https://"):
		return cluster{}, fmt.Errorf("server %q is no https URL", out.server)
	case len(out.ca) == 0:
		return cluster{}, errors.New("the cluster has no certificate-authority-data and no certificate-authority")
	case out.token == "":
		return cluster{}, errors.New("the user has no token and no tokenFile: other credentials are not supported")
	}
	return out, nil
}

// content is data, or that of the named file when there is none.
func content(data []byte, dir, file string) ([]byte, error) {
	if len(data) > 0 || file == "" {
		return data, nil
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	return os.ReadFile(file)
}
