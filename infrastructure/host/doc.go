// SPDX-License-Identifier: Apache-2.0

// Package host takes each RackHost through its life:
//
//	          ┌──────────── new, spec changed while free, or status lost ─────────────┐
//	          ▼                                                                       │
//	    Registering ──verified clean──► Available ──claim──► Claimed ──► Preparing    │
//	     │   ▲    │                       ▲                                 │         │
//	not  │   │    └─ holds our bootstrap ─┼──────────────────┐              │ deliver │
//	ours │   │                            │                  ▼              ▼         │
//	     ▼   │ answers again              │               Running ◄── Bootstrapping   │
//	Quarantined                           │                  │              │         │
//	     ▲   │ ours, or told to           │                  └──── claim ───┘         │
//	     │   ▼                            │                       deleted             │
//	     │  Dirty ──reset──► Cleaning ────┘                          │                │
//	     │   ▲  ▲──failed───────┘                                    ▼                │
//	     │   └────────────────────────────────────────────────── Releasing            │
//	     └──────────── no proof of cleaning within the release timeout ───────────────┘
//
// Two things outside the status decide: the RackHostClaim (absent, there, or being deleted) and the operation whose
// marker the host itself carries. So the phase can be lost and found again by looking at both, without anything being
// done twice: an operation is named after its claim, and a host that knows the name only attaches to it.
//
// A host is Available only after it was verified clean. A claim that is being deleted keeps its finalizer, and so the
// lock, until the host is verified clean or is in quarantine. What a host holds is reset only when it belongs to a
// claim of this management cluster, or when a person asked for it by annotation; a bootstrap under a foreign name may
// well be a Node of another management cluster.
package host
