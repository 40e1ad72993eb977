// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// deprecatedAPIs is the metric by which an API server tells what it has been asked for; stable since Kubernetes 1.20.
const deprecatedAPIs = "apiserver_requested_deprecated_apis"

// maxMetrics bounds what is read of an answer, in bytes. An API server with thousands of kinds stays below a tenth of it.
const maxMetrics = 256 << 20

// DeprecatedAPI is a resource that will be gone some day.
type DeprecatedAPI struct {
	// Group, Version and Resource as in its URL; the core group is empty.
	Group, Version, Resource string
	// Removed is the release without it, "1.32", or empty when none is planned.
	Removed string
}

// DeprecatedAPIs tells which deprecated resources were asked for since the API
// server that happens to answer has started. Of the megabytes of metrics that it
// sends only the lines in question are kept.
func (t *Tenant) DeprecatedAPIs(ctx context.Context) ([]DeprecatedAPI, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.host+"/metrics", http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := t.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // only read from
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("/metrics answered with HTTP status %d", response.StatusCode)
	}
	var lines bytes.Buffer
	scanner := bufio.NewScanner(io.LimitReader(response.Body, maxMetrics))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		if bytes.HasPrefix(scanner.Bytes(), []byte(deprecatedAPIs+"{")) {
			lines.Write(scanner.Bytes())
			lines.WriteByte('\n')
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("reading /metrics: %w", err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(&lines)
	if err != nil {
		return nil, fmt.Errorf("reading /metrics: %w", err)
	}
	var out []DeprecatedAPI
	for _, metric := range families[deprecatedAPIs].GetMetric() {
		labels := map[string]string{}
		for _, pair := range metric.GetLabel() {
			labels[pair.GetName()] = pair.GetValue()
		}
		out = append(out, DeprecatedAPI{Group: labels["group"], Version: labels["version"], Resource: labels["resource"], Removed: labels["removed_release"]})
	}
	return out, nil
}
