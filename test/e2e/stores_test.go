// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/lab"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

// store is a database server of the lab, as its own administrator sees it.
type store struct {
	name, namespace string // of the DataStore, and of the pod <kind>-0
	kind            string // postgres or mariadb
}

var (
	postgres = store{"postgres", "kamaji-system", "postgres"}
	mariadb  = store{"mariadb", "kamaji-system", "mariadb"}
)

// provide brings a store into the lab and waits until tenants can use it.
func (s store) provide(ctx context.Context, log *progress.Log, l *quickstart.Lab) {
	ExpectWithOffset(1, lab.Provide(ctx, log, s.kind)).To(Succeed())
	ExpectWithOffset(1, l.Condition(ctx, "", "datastore", s.name, "Ready")).To(Succeed())
}

// sql runs a statement and returns what it printed: one value per line.
func (s store) sql(ctx context.Context, l *quickstart.Lab, statement string) (string, error) {
	args := []string{"-n", s.namespace, "exec", s.kind + "-0", "--"}
	if s.kind == "mariadb" {
		args = append(args, "mariadb", "--no-defaults", "--socket=/run/mariadb/socket", "--batch", "--skip-column-names", "--execute", statement)
	} else {
		args = append(args, "/usr/lib/postgresql/15/bin/psql", "--host=/run/postgres", "--username=postgres", "--no-psqlrc", "--tuples-only", "--no-align", "--command", statement)
	}
	return l.Kubectl(ctx, args...)
}

// owns says which databases and users of a tenant there are.
func (s store) owns(ctx context.Context, l *quickstart.Lab, schema, user string) (string, error) {
	databases, users := "SELECT datname FROM pg_database", "SELECT rolname FROM pg_roles"
	if s.kind == "mariadb" {
		databases, users = "SELECT schema_name FROM information_schema.schemata", "SELECT user FROM mysql.user"
	}
	var found []string
	for statement, name := range map[string]string{databases: schema, users: user} {
		out, err := s.sql(ctx, l, statement)
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(out) {
			if strings.TrimSpace(line) == name {
				found = append(found, statement+": "+name)
			}
		}
	}
	return strings.Join(found, ", "), nil
}

// scale sets the pods of a store, and waits until they are gone or ready.
func (s store) scale(ctx context.Context, l *quickstart.Lab, replicas int) {
	_, err := l.Kubectl(ctx, "-n", s.namespace, "scale", "statefulset", s.kind, fmt.Sprintf("--replicas=%d", replicas))
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
	_, err = l.Kubectl(ctx, "-n", s.namespace, "rollout", "status", "statefulset", s.kind, "--timeout", "5m")
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
	ExpectWithOffset(1, quickstart.Until(ctx, fmt.Sprintf("%d pods of %s", replicas, s.name), func() error {
		pods, err := l.Kubectl(ctx, "-n", s.namespace, "get", "pods", "-l", "app.kubernetes.io/name="+s.kind, "-o", "name")
		if err == nil && len(strings.Fields(pods)) != replicas {
			err = fmt.Errorf("there are %q", pods)
		}
		return err
	})).To(Succeed())
}

// inTenant runs kubectl with the kubeconfig that a tenant has published.
func inTenant(ctx context.Context, l *quickstart.Lab, name string, args ...string) (string, error) {
	content, err := adminKubeconfig(ctx, l, name)
	if err != nil {
		return "", err
	}
	file := filepath.Join(GinkgoT().TempDir(), "kubeconfig")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return "", err
	}
	return command.Output(ctx, append([]string{filepath.Join(filepath.Dir(l.Kubeconfig), "bin", "kubectl"), "--kubeconfig", file}, args...)...)
}

var _ = Describe("Tenants in PostgreSQL and MariaDB", Ordered, Label("full"), func() {
	log := progress.New(GinkgoWriter)
	l := quickstart.New(log)
	BeforeAll(func(ctx SpecContext) { Expect(l.Prepare(ctx)).To(Succeed()) })
	JustAfterEach(func(ctx SpecContext) {
		if CurrentSpecReport().Failed() {
			l.Explain(ctx)
		}
	})

	DescribeTable("start, keep what is written, and leave nothing", func(ctx SpecContext, s store) {
		s.provide(ctx, log, l)
		t := tenant{name: "in-" + s.name, version: quickstart.Version, dataStore: s.name, replicas: 2}
		create(ctx, l, t)
		DeferCleanup(func(ctx SpecContext) { remove(ctx, l, t.name) })

		_, err := inTenant(ctx, l, t.name, "create", "configmap", "kept", "--from-literal=value=first")
		Expect(err).NotTo(HaveOccurred())
		_, err = inTenant(ctx, l, t.name, "patch", "configmap", "kept", "--type=merge", "-p", `{"data":{"value":"second"}}`)
		Expect(err).NotTo(HaveOccurred())

		By("pods that know only what is in the database")
		_, err = l.Kubectl(ctx, "-n", quickstart.Namespace, "delete", "pods", "-l", "kamaji.clastix.io/name="+t.name)
		Expect(err).NotTo(HaveOccurred())
		Expect(settled(ctx, l, t.name, t.version)).To(Succeed())
		Expect(quickstart.Until(ctx, "the object to be read", func() error {
			value, err := inTenant(ctx, l, t.name, "get", "configmap", "kept", "-o", "jsonpath={.data.value}")
			if err == nil && value != "second" {
				err = fmt.Errorf("it is %q", value)
			}
			return err
		})).To(Succeed())

		By("its end")
		names, err := field(ctx, l, t.name, "{.status.storage.setup.schema} {.status.storage.setup.user}")
		Expect(err).NotTo(HaveOccurred())
		Expect(strings.Fields(names)).To(HaveLen(2))
		schema, user := strings.Fields(names)[0], strings.Fields(names)[1]
		Expect(s.owns(ctx, l, schema, user)).NotTo(BeEmpty(), "the tenant has no traces, so their absence would prove nothing")
		remove(ctx, l, t.name)
		Expect(s.owns(ctx, l, schema, user)).To(BeEmpty())
	},
		Entry("PostgreSQL", postgres),
		Entry("MariaDB", mariadb),
	)
})

var _ = Describe("A DataStore that stops", Ordered, Label("scenario"), func() {
	log := progress.New(GinkgoWriter)
	l := quickstart.New(log)
	hit := tenant{name: "hit", version: quickstart.Version, dataStore: postgres.name, replicas: 2}
	beside := tenant{name: "not-hit", version: quickstart.Version, dataStore: "default", replicas: 2}
	later := tenant{name: "meanwhile", version: quickstart.Version, dataStore: "default", replicas: 1}
	var schema, user string
	BeforeAll(func(ctx SpecContext) {
		Expect(l.Prepare(ctx)).To(Succeed())
		postgres.provide(ctx, log, l)
		create(ctx, l, hit, beside)
		names, err := field(ctx, l, hit.name, "{.status.storage.setup.schema} {.status.storage.setup.user}")
		Expect(err).NotTo(HaveOccurred())
		Expect(strings.Fields(names)).To(HaveLen(2))
		schema, user = strings.Fields(names)[0], strings.Fields(names)[1]
		_, err = inTenant(ctx, l, hit.name, "create", "configmap", "kept", "--from-literal=value=before")
		Expect(err).NotTo(HaveOccurred())
	})
	AfterAll(func(ctx SpecContext) {
		postgres.scale(ctx, l, 1)
		remove(ctx, l, hit.name, beside.name, later.name)
	})
	JustAfterEach(func(ctx SpecContext) {
		if CurrentSpecReport().Failed() {
			l.Explain(ctx)
		}
	})

	// stopped waits until store and tenant say what is wrong.
	stopped := func(ctx context.Context) {
		Expect(quickstart.Until(ctx, "DataStore and tenant to say so", func() error {
			of, err := l.Kubectl(ctx, "get", "datastore", postgres.name, "-o", `jsonpath={.status.ready} {.status.conditions[?(@.type=="Ready")].reason}`)
			if err != nil {
				return err
			}
			said, err := field(ctx, l, hit.name, `{range .status.conditions[?(@.type=="Ready")]}{.status} {.message}{end}`)
			if err == nil && (of != "false Unreachable" || !strings.HasPrefix(said, "False ") || !strings.Contains(said, "DataStore "+postgres.name)) {
				err = fmt.Errorf("DataStore: %s; tenant: %s", of, said)
			}
			return err
		})).To(Succeed())
	}

	// record is since when the tenant in the other DataStore is Ready, and its pods with their restarts.
	record := func(ctx context.Context) string {
		since, err := field(ctx, l, beside.name, `{.status.conditions[?(@.type=="Ready")].lastTransitionTime}`)
		Expect(err).NotTo(HaveOccurred())
		pods, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "get", "pods", "-l", "kamaji.clastix.io/name="+beside.name, "-o",
			"jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].restartCount} {end}")
		Expect(err).NotTo(HaveOccurred())
		return since + " " + pods
	}

	It("is named as the reason, and nobody else notices", func(ctx SpecContext) {
		before := record(ctx)
		postgres.scale(ctx, l, 0)
		stopped(ctx)
		create(ctx, l, later)
		Expect(settled(ctx, l, beside.name, beside.version)).To(Succeed())
		Expect(record(ctx)).To(Equal(before), "the tenant in the other DataStore was not left alone")
	})

	It("comes back, and its tenants with it", func(ctx SpecContext) {
		postgres.scale(ctx, l, 1)
		Expect(l.Condition(ctx, "", "datastore", postgres.name, "Ready")).To(Succeed())
		Expect(settled(ctx, l, hit.name, hit.version)).To(Succeed())
		Expect(quickstart.Until(ctx, "what was written to be read", func() error {
			value, err := inTenant(ctx, l, hit.name, "get", "configmap", "kept", "-o", "jsonpath={.data.value}")
			if err == nil && value != "before" {
				err = fmt.Errorf("it is %q", value)
			}
			return err
		})).To(Succeed())
		_, err := inTenant(ctx, l, hit.name, "patch", "configmap", "kept", "--type=merge", "-p", `{"data":{"value":"after"}}`)
		Expect(err).NotTo(HaveOccurred())
	})

	It("is gone for good, and a tenant can be deleted without it", func(ctx SpecContext) {
		postgres.scale(ctx, l, 0)
		stopped(ctx)
		_, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "delete", "tenantcontrolplane", hit.name, "--wait=false")
		Expect(err).NotTo(HaveOccurred())
		Expect(quickstart.Until(ctx, "the deletion to say what it waits for", func() error {
			said, err := field(ctx, l, hit.name, `{.status.conditions[*].message}`)
			if err == nil && !strings.Contains(said, "kamaji.clastix.io/orphan-datastore") {
				err = fmt.Errorf("conditions say %q", said)
			}
			return err
		})).To(Succeed())
		_, err = l.Kubectl(ctx, "-n", quickstart.Namespace, "annotate", "tenantcontrolplane", hit.name, "kamaji.clastix.io/orphan-datastore=true")
		Expect(err).NotTo(HaveOccurred())
		_, err = l.Kubectl(ctx, "-n", quickstart.Namespace, "wait", "--for=delete", "tenantcontrolplane/"+hit.name, "--timeout=5m")
		Expect(err).NotTo(HaveOccurred())

		By("what was left behind, as announced")
		postgres.scale(ctx, l, 1)
		Expect(postgres.owns(ctx, l, schema, user)).NotTo(BeEmpty())
		for _, statement := range []string{`DROP DATABASE "` + schema + `" WITH (FORCE)`, `DROP ROLE "` + user + `"`} {
			_, err := postgres.sql(ctx, l, statement)
			Expect(err).NotTo(HaveOccurred())
		}
	})
})
