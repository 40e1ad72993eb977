// SPDX-License-Identifier: Apache-2.0

// Command runc stands before the real runc on machines that are containers or
// micro-VMs themselves: their bounding set lacks CAP_SYS_RESOURCE, so runc fails
// to grant it to privileged containers, to lower OOM scores and to raise limits.
// Where the capability is present it changes nothing.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// capSysResource is the number and name of the capability in linux/capability.h.
const (
	capSysResource     = 24
	capSysResourceName = "CAP_SYS_RESOURCE"
)

// limits numbers the limits that containers set (asm-generic/resource.h).
var limits = map[string]int{
	"RLIMIT_CPU": 0, "RLIMIT_FSIZE": 1, "RLIMIT_DATA": 2, "RLIMIT_STACK": 3, "RLIMIT_CORE": 4, "RLIMIT_RSS": 5,
	"RLIMIT_NPROC": 6, "RLIMIT_NOFILE": 7, "RLIMIT_MEMLOCK": 8, "RLIMIT_AS": 9,
}

func main() {
	if !allowed() {
		if err := rewrite(os.Args[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "runc wrapper: %v\n", err)
			os.Exit(1)
		}
	}
	for _, path := range []string{"/usr/sbin/runc", "/usr/bin/runc"} {
		if _, err := os.Stat(path); err == nil {
			err = syscall.Exec(path, append([]string{"runc"}, os.Args[1:]...), os.Environ())
			fmt.Fprintf(os.Stderr, "runc wrapper: %s: %v\n", path, err)
		}
	}
	os.Exit(127)
}

// allowed tells whether the bounding set holds CAP_SYS_RESOURCE.
func allowed() bool {
	status, err := os.Open("/proc/self/status")
	if err != nil {
		return true
	}
	defer status.Close()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		if value, found := strings.CutPrefix(lines.Text(), "CapBnd:"); found {
			set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			return err != nil || set&(1<<capSysResource) != 0
		}
	}
	return true
}

// rewrite edits the documents that the runc arguments name: the bundle's
// configuration (create, run, restore) or the process document (exec).
func rewrite(args []string) error {
	bundle, process, verb := ".", "", ""
	for i := 0; i < len(args); i++ {
		name, value, inline := strings.Cut(args[i], "=")
		switch name {
		case "--bundle", "-b", "--process", "-p":
			if !inline && i+1 < len(args) {
				i++
				value = args[i]
			}
			if name == "--bundle" || name == "-b" {
				bundle = value
			} else {
				process = value
			}
		case "create", "run", "restore", "exec":
			if verb == "" {
				verb = name
			}
		}
	}
	switch verb {
	case "create", "run", "restore":
		return edit(filepath.Join(bundle, "config.json"), func(document map[string]any) {
			if inner, ok := document["process"].(map[string]any); ok {
				relax(inner)
			}
		})
	case "exec":
		if process != "" {
			return edit(process, relax)
		}
	}
	return nil
}

// edit decodes a JSON file, changes it and writes it back with the same mode.
// A file that doesn't exist is left for runc to complain about.
func edit(path string, change func(map[string]any)) error {
	info, err := os.Stat(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	document := map[string]any{}
	decoder := json.NewDecoder(file)
	decoder.UseNumber() // limits and sizes exceed what float64 holds
	err = decoder.Decode(&document)
	file.Close()
	if err != nil {
		return fmt.Errorf("decoding %s: %w", path, err)
	}
	change(document)
	content, err := json.Marshal(document)
	if err != nil {
		return err
	}
	return os.WriteFile(path, content, info.Mode()&fs.ModePerm)
}

// relax takes from an OCI process what needs CAP_SYS_RESOURCE: the capability
// itself, a negative OOM score and limits above the hard limits of this process.
func relax(process map[string]any) {
	if sets, ok := process["capabilities"].(map[string]any); ok {
		for name, set := range sets {
			if list, ok := set.([]any); ok {
				sets[name] = slices.DeleteFunc(list, func(c any) bool { return c == capSysResourceName })
			}
		}
	}
	if score, ok := process["oomScoreAdj"].(json.Number); ok && strings.HasPrefix(score.String(), "-") {
		process["oomScoreAdj"] = 0
	}
	if list, ok := process["rlimits"].([]any); ok {
		process["rlimits"] = slices.DeleteFunc(list, func(limit any) bool {
			entry, ok := limit.(map[string]any)
			return ok && exceeds(entry)
		})
	}
}

// exceeds tells whether a limit is above this process's hard limit.
func exceeds(limit map[string]any) bool {
	name, _ := limit["type"].(string)
	number, known := limits[name]
	wanted, ok := limit["hard"].(json.Number)
	if !known || !ok {
		return false
	}
	var current syscall.Rlimit
	if err := syscall.Getrlimit(number, &current); err != nil {
		return false
	}
	hard, err := strconv.ParseUint(wanted.String(), 10, 64)
	return err != nil || hard > current.Max
}
