// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cache"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/debian"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

// node is where Prometheus runs in the lab: it has to reach pods.
const node = "kamaji-lab-worker"

var _ = Describe("Dashboards", Ordered, Label("full"), func() {
	log := progress.New(GinkgoWriter)
	l := quickstart.New(log)
	BeforeAll(func(ctx SpecContext) {
		Expect(l.Prepare(ctx)).To(Succeed())
		startPrometheus(ctx, log, l)
	})
	AfterAll(func(ctx SpecContext) {
		Expect(command.Run(ctx, "docker", "exec", node, "pkill", "-x", "prometheus")).To(Succeed())
		_, err := l.Kubectl(ctx, "delete", "--ignore-not-found", "-f", metricsReader(ctx))
		Expect(err).NotTo(HaveOccurred())
	})

	It("show what a real Prometheus has scraped", func(ctx SpecContext) {
		root, err := cache.Root()
		Expect(err).NotTo(HaveOccurred())
		files, err := filepath.Glob(filepath.Join(root, "config/monitoring/dashboards/*.json"))
		Expect(err).NotTo(HaveOccurred())
		Expect(files).NotTo(BeEmpty())
		for _, file := range files {
			for title, expr := range expressions(file) {
				Expect(quickstart.Until(ctx, fmt.Sprintf("data of panel %q of %s", title, filepath.Base(file)), func() error {
					return hasData(ctx, expr)
				})).To(Succeed())
			}
		}
	})
})

// expressions are the queries of a dashboard that only need the managers and gateways to be scraped.
func expressions(file string) map[string]string {
	content, err := os.ReadFile(file)
	Expect(err).NotTo(HaveOccurred())
	var dashboard struct {
		Panels []struct {
			Title, Description string
			Targets            []struct{ Expr string }
		}
	}
	Expect(json.Unmarshal(content, &dashboard)).To(Succeed())
	out := map[string]string{}
	for _, panel := range dashboard.Panels {
		for i, target := range panel.Targets {
			expr := strings.NewReplacer("$namespace", quickstart.Namespace, "$tenant", quickstart.Demo).Replace(target.Expr)
			elsewhere := strings.Contains(expr, "container_") || strings.Contains(expr, "apiserver_")
			// Nothing is wrong in the lab, which is what these two would show.
			quiet := strings.Contains(expr, `ready="false"}`) && !strings.Contains(expr, "vector(0)") && !strings.HasPrefix(expr, "sum(")
			if !elsewhere && !quiet {
				out[fmt.Sprintf("%s %d", panel.Title, i)] = expr
			}
		}
	}
	return out
}

// hasData asks Prometheus.
func hasData(ctx context.Context, expr string) error {
	output, err := command.Output(ctx, "docker", "exec", node, "curl", "-sf", "http://127.0.0.1:9090/api/v1/query?query="+url.QueryEscape(expr))
	if err != nil {
		return err
	}
	var answer struct {
		Data struct{ Result []json.RawMessage }
	}
	if err := json.Unmarshal([]byte(output), &answer); err != nil {
		return err
	}
	if len(answer.Data.Result) == 0 {
		return fmt.Errorf("%s has no result", expr)
	}
	return nil
}

func metricsReader(ctx context.Context) string {
	root, err := cache.Root()
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
	return filepath.Join(root, "config/monitoring/metrics_reader.yaml")
}

// startPrometheus runs Debian's Prometheus on a node, with the ServiceAccounts of config/monitoring.
func startPrometheus(ctx context.Context, log *progress.Log, l *quickstart.Lab) {
	Expect(debian.Need(ctx, log, map[string]string{"prometheus": "prometheus"})).To(Succeed())
	_, err := l.Kubectl(ctx, "apply", "-f", metricsReader(ctx))
	Expect(err).NotTo(HaveOccurred())
	configuration := "global: {scrape_interval: 2s}\nscrape_configs:\n"
	for _, job := range []struct{ namespace, name string }{{"kamaji-system", "kamaji-controller-manager"}, {"rack-system", "rack-controller-manager"}} {
		var address, token string
		Expect(quickstart.Until(ctx, "the manager "+job.name, func() (err error) {
			if token, err = l.Kubectl(ctx, "-n", job.namespace, "get", "secret", "kamaji-metrics-reader", "-o", "go-template={{.data.token | base64decode}}"); err != nil {
				return err
			}
			address, err = l.Kubectl(ctx, "-n", job.namespace, "get", "pods", "-l", "app.kubernetes.io/name="+job.name, "-o", "jsonpath={.items[0].status.podIP}")
			return err
		})).To(Succeed())
		configuration += fmt.Sprintf("- {job_name: %s, scheme: https, tls_config: {insecure_skip_verify: true}, authorization: {credentials: %s}, static_configs: [{targets: ['%s:8443']}]}\n",
			job.name, token, address)
	}
	gateway, err := l.Kubectl(ctx, "-n", "kamaji-system", "get", "daemonset", "kamaji-gateway-default", "-o",
		"jsonpath={.spec.template.spec.containers[0].readinessProbe.httpGet.host}:9902")
	Expect(err).NotTo(HaveOccurred())
	configuration += fmt.Sprintf("- {job_name: kamaji-gateway, static_configs: [{targets: ['%s']}]}\n", gateway)
	_, err = command.Command{Args: []string{"docker", "exec", "-i", node, "sh", "-c", "cat > /run/prometheus.yml"}, Stdin: strings.NewReader(configuration)}.Output(ctx)
	Expect(err).NotTo(HaveOccurred())
	Expect(command.Run(ctx, "docker", "cp", "/usr/bin/prometheus", node+":/usr/local/bin/prometheus")).To(Succeed())
	Expect(command.Run(ctx, "docker", "exec", "-d", node, "prometheus", "--config.file=/run/prometheus.yml", "--storage.tsdb.path=/tmp/prometheus",
		"--web.listen-address=127.0.0.1:9090")).To(Succeed())
}
