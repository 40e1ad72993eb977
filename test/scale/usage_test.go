// SPDX-License-Identifier: Apache-2.0

//go:build scale

package scale

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/client-go/rest"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/samples"
)

// usage is what has been used up to now.
type usage struct {
	tenants                 int
	engine, server, etcd    float64 // seconds of CPU
	writes, dataStoreWrites float64
	resident                float64 // MiB
}

func (w *world) usage(t *testing.T) usage {
	text, err := w.scrape(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server, err := w.serverMetrics(t)
	if err != nil {
		t.Fatal(err)
	}
	u := usage{
		engine: samples.Sum(text, "process_cpu_seconds_total"), resident: samples.Sum(text, "process_resident_memory_bytes") / (1 << 20),
		server: samples.Sum(server, "process_cpu_seconds_total"), etcd: children(t, "etcd"),
	}
	// Requests to tenants have another host.
	host := strings.Trim(strings.TrimPrefix(w.admin.Host, "https://"), "/")
	for _, method := range []string{"POST", "PATCH", "PUT", "DELETE"} {
		u.writes += samples.Sum(text, "rest_client_requests_total", fmt.Sprintf("host=%q", host), fmt.Sprintf("method=%q", method))
	}
	for _, verb := range []string{"APPLY", "PATCH", "PUT"} {
		u.dataStoreWrites += samples.Sum(server, "apiserver_request_total", `resource="datastores"`, fmt.Sprintf("verb=%q", verb))
	}
	return u
}

// serverMetrics is what the management API server tells about itself.
func (w *world) serverMetrics(t *testing.T) (string, error) {
	direct, err := rest.HTTPClientFor(w.admin)
	if err != nil {
		t.Fatal(err)
	}
	response, err := direct.Get(strings.TrimSuffix("https://"+strings.TrimPrefix(w.admin.Host, "https://"), "/") + "/metrics")
	if err != nil {
		return "", err
	}
	return read(response)
}

func (w *world) report(size int, took float64, before, now usage) {
	added := float64(now.tenants - before.tenants)
	engine, server := (now.engine-before.engine)/added, (now.server-before.server)/added
	bench := func(name string, value float64, unit, peer string, peerValue float64, goal string, limit float64) {
		verdict, ratio := "ok", "-"
		if value > limit {
			verdict = "short"
		}
		if peerValue > 0 {
			ratio = fmt.Sprintf("%.2f", value/peerValue)
		}
		fmt.Printf("BENCH scale-%d-%s %.3f %s %s %.3f %s %s %s\n", size, name, value, unit, peer, peerValue, ratio, goal, verdict)
	}
	bench("converge", took/added, "s/tenant", "-", 0, "-", took)
	bench("manager-cpu", engine, "s/tenant", "kamaji", 3.66, "<=0.3s", 0.3)
	bench("apiserver-cpu", server, "s/tenant", "manager-cpu", engine, "-", server)
	bench("etcd-cpu", (now.etcd-before.etcd)/added, "s/tenant", "manager-cpu", engine, "-", now.etcd)
	bench("writes", (now.writes-before.writes)/added, "writes/tenant", "kamaji", 123, "<=30", 30)
	bench("datastore-writes", (now.dataStoreWrites-before.dataStoreWrites)/added, "writes/tenant", "kamaji", 27, "<=1", 1)
	bench("manager-rss", now.resident, "MiB", "-", 0, "<=500MiB-at-1000", 500)
}

// quiet waits until the last events have been looked at.
func (w *world) quiet(t *testing.T) {
	w.until(t, "the engine to be quiet", func() error {
		first := w.usage(t)
		time.Sleep(5 * time.Second)
		if second := w.usage(t); second.writes > first.writes+5 {
			return fmt.Errorf("%.0f writes in 5 s", second.writes-first.writes)
		}
		return nil
	})
}

// idle watches the settled engine.
func (w *world) idle(t *testing.T, name string) {
	from := w.usage(t)
	time.Sleep(idleFor)
	to := w.usage(t)
	// The leader's Lease isn't taken here, so there is nothing to subtract.
	fmt.Printf("BENCH scale-%s-writes %.0f writes/min - 0 - 0 %s\n", name, to.writes-from.writes, verdict(to.writes == from.writes))
	share := (to.engine - from.engine) / idleFor.Seconds() * 100
	fmt.Printf("BENCH scale-%s-cpu %.2f %%-of-a-core - 0 - <1%% %s\n", name, share, verdict(share < 1))
	fmt.Printf("BENCH scale-%s-rss %.0f MiB - 0 - <=500MiB %s\n", name, to.resident, verdict(to.resident <= 500))
}

func verdict(ok bool) string {
	if ok {
		return "ok"
	}
	return "short"
}

func (w *world) scrape(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "curl", "-sf", "http://"+w.metrics+"/metrics").Output()
	return string(output), err
}

// children is the CPU time, in seconds, of this process's children of that name.
func children(t *testing.T, name string) float64 {
	folders, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, file := range folders {
		content, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(content), "("+name+")") {
			continue
		}
		fields := strings.Fields(string(content[strings.LastIndexByte(string(content), ')')+1:]))
		if fields[1] != strconv.Itoa(os.Getpid()) {
			continue
		}
		for _, field := range fields[11:13] {
			ticks, _ := strconv.ParseFloat(field, 64)
			sum += ticks / 100
		}
	}
	return sum
}

func freeAddress(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func read(response *http.Response) (string, error) {
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return string(content), err
}

// profile keeps what the engine's memory is used for, and what it has written, in the folder that keepProfiles names.
func (w *world) profile(t *testing.T, size int) {
	folder := os.Getenv(keepProfiles)
	if folder == "" {
		return
	}
	save := func(name, url string) {
		content, err := exec.CommandContext(t.Context(), "curl", "-sf", url).Output()
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, fmt.Sprintf("%s-%d", name, size)), content, 0o600)
		}
		if err != nil {
			t.Fatalf("saving %s: %v", name, err)
		}
	}
	events := &eventsv1.EventList{}
	if err := w.client.List(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	for i := range events.Items {
		told[events.Items[i].Reason]++
	}
	t.Logf("%d tenants, Events by reason: %v", size, told)
	save("metrics", "http://"+w.metrics+"/metrics")
	save("heap", "http://"+w.profiles+"/debug/pprof/heap?gc=1")
	save("goroutines", "http://"+w.profiles+"/debug/pprof/goroutine?debug=1")
	text, err := w.serverMetrics(t)
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, fmt.Sprintf("apiserver-%d", size)), []byte(text), 0o600)
	}
	if err != nil {
		t.Fatalf("saving the metrics of the API server: %v", err)
	}
}
