// SPDX-License-Identifier: Apache-2.0

// Package migration moves a tenant's state from one DataStore to another. It
// decides what comes next (Record.Next), does what takes long in the background
// (Jobs, Prepare, Copy), and keeps what must survive a restart (Record). The
// tenant reconciler executes it.
//
//	Preparing   the target is claimed, held and raised; the tenant serves as before
//	Copying     the source is frozen, then copied and compared, while the tenant can be read
//	Stopping    the pods of the source end
//	Switched    pods start on the target
//	Cleaning    the source is deleted, if that was asked for
//	Done        the tenant is in the target
//	Returning   something went wrong: the source takes writes again
//	Failed      the tenant is in the source as before
package migration

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// Step is how far a migration is.
type Step string

// The steps, in order; Returning and Failed may follow each of the first three.
const (
	Preparing Step = "Preparing"
	Copying   Step = "Copying"
	Stopping  Step = "Stopping"
	Switched  Step = "Switched"
	Cleaning  Step = "Cleaning"
	Done      Step = "Done"
	Returning Step = "Returning"
	Failed    Step = "Failed"
)

// Record is what a migration must not forget. It is kept in a ConfigMap, because
// the status may be lost.
type Record struct {
	// Source and Target are names of DataStores.
	Source string `json:"source"`
	Target string `json:"target"`
	// Attempt is unique to this attempt; the target is held in its name.
	Attempt string `json:"attempt"`
	Step    Step   `json:"step"`
	// Owned says that what is in the target is of this attempt. Before that it may
	// be somebody's data, which a failure must not touch.
	Owned bool `json:"owned,omitempty"`
	// Started is when the attempt began, Frozen when writes were first refused,
	// Stopping and Switched when these steps began.
	Started  time.Time `json:"started"`
	Frozen   time.Time `json:"frozen,omitzero"`
	Stopping time.Time `json:"stopping,omitzero"`
	Switched time.Time `json:"switched,omitzero"`
	// Seal is that of the source when it was copied.
	Seal string `json:"seal,omitempty"`
	// Keys and Bytes were copied.
	Keys  int64 `json:"keys,omitempty"`
	Bytes int64 `json:"bytes,omitempty"`
	// Request identifies what was asked for, so that a failed attempt is repeated
	// when that changes and not before.
	Request string `json:"request"`
	// Reason and Message say why the attempt failed.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Leftover is a DataStore that may hold parts of an attempt that failed.
	Leftover string `json:"leftover,omitempty"`
	// Kept are DataStores that still hold an old copy.
	Kept []string `json:"kept,omitempty"`
}

// recordKey is the key of the ConfigMap that holds the record.
const recordKey = "migration"

// Encode returns the data of the ConfigMap.
func (r *Record) Encode() (map[string]string, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the record of the migration: %w", err)
	}
	return map[string]string{recordKey: string(text)}, nil
}

// Decode reads what Encode has made.
func Decode(data map[string]string) (*Record, error) {
	r := &Record{}
	if err := json.Unmarshal([]byte(data[recordKey]), r); err != nil {
		return nil, fmt.Errorf("the record of the migration can't be read: %w", err)
	}
	return r, nil
}

// Current is the DataStore whose data counts.
func (r *Record) Current() string {
	switch r.Step {
	case Switched, Cleaning, Done:
		return r.Target
	default:
		return r.Source
	}
}

// Active says that there is something left to do.
func (r *Record) Active() bool { return r != nil && r.Step != Done && r.Step != Failed }

// Seals says that the source may be frozen, so that nothing must give it its rights back.
func (r *Record) Seals() bool {
	return r != nil && (r.Step == Copying || r.Step == Stopping || r.Step == Returning)
}

// Keep notes that a DataStore holds an old copy.
func (r *Record) Keep(store string) {
	if !slices.Contains(r.Kept, store) {
		r.Kept = append(r.Kept, store)
	}
}

// Drop takes a DataStore off the list of those with an old copy.
func (r *Record) Drop(store string) {
	r.Kept = slices.DeleteFunc(r.Kept, func(name string) bool { return name == store })
}

const (
	// DefaultTimeout is how long writes are refused at most before the tenant
	// returns to its old store, and how long new pods may take to become ready.
	DefaultTimeout = 5 * time.Minute
	// patience is how long the old pods may take to stop. Going on without them
	// is safe: they can write nowhere.
	patience = 90 * time.Second
)

// Options are what annotations of a TenantControlPlane ask for.
type Options struct {
	// Timeout bounds the time for which writes are refused.
	Timeout time.Duration
	// MinimumFreeze is how long they are refused at least, so that somebody can look.
	MinimumFreeze time.Duration
	// CleanTarget permits to delete what is in the target beforehand.
	CleanTarget bool
	// DeleteSource asks to delete the old copy once the tenant serves from the new one.
	DeleteSource bool
}

// OptionsOf reads annotations. The error names the one that can't be read.
func OptionsOf(annotations map[string]string) (Options, error) {
	o := Options{
		Timeout:      DefaultTimeout,
		CleanTarget:  annotations[kamajiv1alpha1.CleanupPriorMigrationAnnotation] == "true",
		DeleteSource: annotations[kamajiv1alpha1.DeleteMigrationSourceAnnotation] == "true",
	}
	for name, into := range map[string]*time.Duration{
		kamajiv1alpha1.MigrationTimeoutAnnotation: &o.Timeout, kamajiv1alpha1.MigrationMinimumFreezeAnnotation: &o.MinimumFreeze,
	} {
		text, given := annotations[name]
		if !given || text == "" {
			continue
		}
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return o, fmt.Errorf("annotation %s is %q and must be a duration such as 5m", name, text)
		}
		*into = d
	}
	if o.Timeout <= o.MinimumFreeze {
		return o, fmt.Errorf("annotation %s (%s) must be longer than %s (%s)",
			kamajiv1alpha1.MigrationTimeoutAnnotation, o.Timeout, kamajiv1alpha1.MigrationMinimumFreezeAnnotation, o.MinimumFreeze)
	}
	return o, nil
}
