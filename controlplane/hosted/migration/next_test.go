// SPDX-License-Identifier: Apache-2.0

package migration

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNext(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	broken := errors.New("no route")
	for name, test := range map[string]struct {
		record Record
		facts  Facts
		want   Decision
	}{
		"starts to prepare": {Record{Step: Preparing}, Facts{}, Decision{Action: RunPrepare}},
		"prepares":          {Record{Step: Preparing}, Facts{Job: Running}, Decision{Action: Wait}},
		"a target that does not answer is tried again, for ever": {
			Record{Step: Preparing, Started: ago(24 * time.Hour)}, Facts{Job: Broken, JobError: broken}, Decision{Action: RunPrepare}},
		"a target that can't be used": {
			Record{Step: Preparing}, Facts{Job: Broken, JobError: broken, Permanent: true}, Decision{Action: Return, Reason: FailedReason, Message: "no route"}},
		"is prepared":     {Record{Step: Preparing}, Facts{Job: Succeeded}, Decision{Action: BeginCopy}},
		"starts to copy":  {Record{Step: Copying}, Facts{}, Decision{Action: RunCopy}},
		"waits its turn":  {Record{Step: Copying, Started: ago(time.Hour)}, Facts{Job: Running}, Decision{Action: Wait}},
		"copies":          {Record{Step: Copying, Frozen: ago(time.Minute)}, Facts{Job: Running}, Decision{Action: Wait, At: now.Add(4 * time.Minute)}},
		"copies again":    {Record{Step: Copying, Frozen: ago(time.Minute)}, Facts{Job: Broken, JobError: broken}, Decision{Action: RunCopy}},
		"is copied":       {Record{Step: Copying, Frozen: ago(time.Minute)}, Facts{Job: Succeeded}, Decision{Action: BeginStop}},
		"is copied early": {Record{Step: Copying, Frozen: ago(time.Second)}, Facts{Job: Succeeded, Options: Options{MinimumFreeze: 3 * time.Second}}, Decision{Action: Wait, At: now.Add(2 * time.Second)}},
		"copies for too long": {Record{Step: Copying, Frozen: ago(5 * time.Minute)}, Facts{Job: Broken, JobError: broken},
			Decision{Action: Return, Reason: TimeoutReason, Message: "writes were refused for 5m0s, step Copying is not done: no route"}},
		"the copy differs": {Record{Step: Copying, Frozen: now}, Facts{Job: Broken, JobError: &Mismatch{"differs"}, Permanent: true},
			Decision{Action: Return, Reason: FailedReason, Message: "differs"}},
		"pods stop":                  {Record{Step: Stopping, Stopping: ago(time.Second)}, Facts{}, Decision{Action: StopPods, At: now.Add(89 * time.Second)}},
		"pods are gone":              {Record{Step: Stopping, Stopping: ago(time.Second)}, Facts{PodsGone: true}, Decision{Action: RunSeal}},
		"a pod on a dead node":       {Record{Step: Stopping, Stopping: ago(90 * time.Second)}, Facts{}, Decision{Action: RunSeal}},
		"sealed":                     {Record{Step: Stopping}, Facts{PodsGone: true, Job: Succeeded}, Decision{Action: Switch}},
		"starts":                     {Record{Step: Switched, Switched: ago(time.Minute)}, Facts{}, Decision{Action: Serve, At: now.Add(4 * time.Minute)}},
		"serves":                     {Record{Step: Switched, Switched: ago(time.Minute)}, Facts{Serves: true}, Decision{Action: Finish}},
		"never serves":               {Record{Step: Switched, Target: "new", Switched: ago(5 * time.Minute)}, Facts{}, Decision{Action: Return, Reason: TimeoutReason, Message: "no pod became ready with DataStore new within 5m0s"}},
		"the old copy goes":          {Record{Step: Cleaning}, Facts{}, Decision{Action: RunClean}},
		"the old copy resists":       {Record{Step: Cleaning}, Facts{Job: Broken, JobError: broken, Permanent: true}, Decision{Action: RunClean}},
		"the old copy is gone":       {Record{Step: Cleaning}, Facts{Job: Succeeded}, Decision{Action: Finish}},
		"returns":                    {Record{Step: Returning}, Facts{}, Decision{Action: Thaw}},
		"returns from the new store": {Record{Step: Returning, Switched: ago(time.Minute)}, Facts{}, Decision{Action: StopPods, At: now.Add(time.Second)}},
		"returned":                   {Record{Step: Failed}, Facts{}, Decision{Action: Serve}},
	} {
		t.Run(name, func(t *testing.T) {
			test.facts.Now, test.facts.Wanted, test.facts.Timeout = now, test.record.Target, DefaultTimeout
			if diff := cmp.Diff(test.want, test.record.Next(test.facts)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// Setting the spec back ends a migration until the moment the new store takes writes.
func TestCancel(t *testing.T) {
	for step, want := range map[Step]Action{
		Preparing: Return, Copying: Return, Stopping: Return, Returning: Thaw, Switched: Serve, Cleaning: RunClean, Done: Serve, Failed: Serve,
	} {
		r := Record{Source: "old", Target: "new", Step: step}
		now := time.Now()
		got := r.Next(Facts{Now: now, Wanted: "old", Options: Options{Timeout: time.Hour}})
		if step == Switched {
			r.Switched = now
			got = r.Next(Facts{Now: now, Wanted: "old", Options: Options{Timeout: time.Hour}})
		}
		if got.Action != want {
			t.Errorf("%s: %s, want %s", step, got.Action, want)
		}
	}
}

func TestRecordSurvives(t *testing.T) {
	before := &Record{Source: "a", Target: "b", Attempt: "x", Step: Copying, Started: time.Now().UTC().Truncate(time.Second), Kept: []string{"c"}}
	data, err := before.Encode()
	if err != nil {
		t.Fatal(err)
	}
	after, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	if _, err := Decode(map[string]string{"migration": "{"}); err == nil {
		t.Error("half a record was read")
	}
}

func TestOptions(t *testing.T) {
	const prefix = "kamaji.clastix.io/"
	for name, test := range map[string]struct {
		annotations map[string]string
		want        Options
		fails       bool
	}{
		"defaults": {nil, Options{Timeout: DefaultTimeout}, false},
		"all": {map[string]string{prefix + "migration-timeout": "10m", prefix + "migration-minimum-freeze": "30s", prefix + "cleanup-prior-migration": "true",
			prefix + "delete-migration-source": "true"}, Options{10 * time.Minute, 30 * time.Second, true, true}, false},
		"no duration":          {map[string]string{prefix + "migration-timeout": "10"}, Options{}, true},
		"longer than permited": {map[string]string{prefix + "migration-minimum-freeze": "6m"}, Options{}, true},
	} {
		got, err := OptionsOf(test.annotations)
		if (err != nil) != test.fails || err == nil && got != test.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
