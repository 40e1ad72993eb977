// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"path"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	device     = regexp.MustCompile(`^/dev/[A-Za-z0-9][A-Za-z0-9._:+/-]*$`)
	fsType     = regexp.MustCompile(`^[a-z0-9][a-z0-9.]{0,15}$`)
	fsLabel    = regexp.MustCompile(`^[A-Za-z0-9_.-]{0,36}$`)
	fsPart     = regexp.MustCompile(`^(auto|any|none|[1-9][0-9]{0,2})?$`)
	mbrType    = regexp.MustCompile(`^[0-9a-f]{1,2}$`)
	gptType    = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
	mountField = regexp.MustCompile(`^[A-Za-z0-9/][A-Za-z0-9_.,:=@%+/-]*$`)
)

// gptTypes translates the MBR codes that the bootstrap provider writes, whatever the table, into GPT's type GUIDs (UEFI and
// the Discoverable Partitions list).
var gptTypes = map[string]string{
	"83": "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
	"82": "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F",
	"fd": "A19D880F-05FC-4D3B-A006-743F0F84911E",
	"8e": "E6D6D379-F507-44C2-A23C-238F2A3DF928",
	"0c": "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7",
	"07": "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7",
}

func (c *cloudConfig) readDisks(n *yaml.Node, p string) error {
	if n.Kind != yaml.MappingNode {
		return invalid(p, "must be a mapping of devices")
	}
	for i := 0; i < len(n.Content); i += 2 {
		d := Disk{TableType: "mbr"}
		var layout *yaml.Node
		if err := line(&d.Device)(n.Content[i], p); err != nil {
			return err
		}
		at := join(p, clip(d.Device))
		if !device.MatchString(d.Device) {
			return invalid(at, "is not a device path")
		}
		if err := mapping(n.Content[i+1], at, map[string]field{
			"table_type": line(&d.TableType),
			"overwrite":  boolean(&d.Overwrite),
			"layout":     func(n *yaml.Node, _ string) error { layout = n; return nil },
		}); err != nil {
			return err
		}
		if d.TableType != "mbr" && d.TableType != "gpt" {
			return invalid(at+".table_type", "%q is not mbr or gpt", clip(d.TableType))
		}
		if layout != nil {
			if err := readLayout(&d, layout, at+".layout"); err != nil {
				return err
			}
		}
		c.disks = append(c.disks, d)
	}
	return nil
}

// readLayout takes true (one partition), false (none), or a list of percentages with optional types.
func readLayout(d *Disk, n *yaml.Node, p string) error {
	if n.Kind == yaml.ScalarNode {
		var one bool
		if err := boolean(&one)(n, p); err != nil {
			return err
		}
		if one {
			d.Partitions = []Partition{{Percent: 100}}
		}
		return nil
	}
	total := 0
	err := list(n, p, func(n *yaml.Node, p string) error {
		var percent, code string
		if n.Kind == yaml.SequenceNode && len(n.Content) == 2 {
			if err := line(&code)(n.Content[1], p); err != nil {
				return err
			}
			n = n.Content[0]
		}
		if err := line(&percent)(n, p); err != nil {
			return err
		}
		size, err := strconv.Atoi(percent)
		if err != nil || size < 1 || size > 100 {
			return invalid(p, "must be a percentage, or [percentage, type]")
		}
		total += size
		kind, ok := partitionType(d.TableType, strings.ToLower(code))
		if !ok {
			return invalid(p, "partition type %q is not possible in a %s table", clip(code), d.TableType)
		}
		d.Partitions = append(d.Partitions, Partition{Percent: size, Type: kind})
		return nil
	})
	if err == nil && total > 100 {
		return invalid(p, "partitions add up to %d %%", total)
	}
	return err
}

func partitionType(table, code string) (string, bool) {
	switch {
	case code == "":
		return "", true
	case table == "mbr":
		return code, mbrType.MatchString(code)
	case gptTypes[code] != "":
		return gptTypes[code], true
	}
	return strings.ToUpper(code), gptType.MatchString(code)
}

func (c *cloudConfig) readFilesystems(n *yaml.Node, p string) error {
	return list(n, p, func(n *yaml.Node, p string) error {
		var f Filesystem
		if err := mapping(n, p, map[string]field{
			"label":      line(&f.Label),
			"filesystem": line(&f.Type),
			"device":     line(&f.Device),
			"partition":  line(&f.Partition),
			"overwrite":  boolean(&f.Overwrite),
			"replace_fs": line(&f.Replace),
			"extra_opts": lines(&f.ExtraOpts),
		}); err != nil {
			return err
		}
		switch {
		case !device.MatchString(f.Device):
			return invalid(p+".device", "%q is not a device path", clip(f.Device))
		case !fsType.MatchString(f.Type):
			return invalid(p+".filesystem", "%q is not a filesystem type", clip(f.Type))
		case f.Replace != "" && !fsType.MatchString(f.Replace):
			return invalid(p+".replace_fs", "%q is not a filesystem type", clip(f.Replace))
		case !fsLabel.MatchString(f.Label):
			return invalid(p+".label", "%q is not a filesystem label", clip(f.Label))
		case !fsPart.MatchString(f.Partition):
			return invalid(p+".partition", "%q is not auto, any, none or a number", clip(f.Partition))
		}
		c.filesystems = append(c.filesystems, f)
		return nil
	})
}

// readMounts fills in what cloud-init does: nofail, because a missing data disk must not stop the boot.
func (c *cloudConfig) readMounts(n *yaml.Node, p string) error {
	return list(n, p, func(n *yaml.Node, p string) error {
		var given []string
		if err := lines(&given)(n, p); err != nil {
			return err
		}
		if len(given) < 2 || len(given) > 6 {
			return invalid(p, "must have 2 to 6 fields")
		}
		fields := []string{"", "", "auto", "defaults,nofail", "0", "2"}
		for i, v := range given {
			if !mountField.MatchString(v) {
				return invalid(p, "field %d can't be written to fstab", i+1)
			}
			fields[i] = v
		}
		m := Mount{Device: fields[0], Point: fields[1], Type: fields[2], Options: fields[3], Dump: fields[4], Pass: fields[5]}
		if !strings.ContainsAny(m.Device, "=/:") {
			m.Device = "/dev/" + m.Device
		}
		swap := m.Type == "swap" && m.Point == "none"
		if !swap && (!path.IsAbs(m.Point) || path.Clean(m.Point) != m.Point || m.Point == "/") {
			return invalid(p, "mount point %q is not a clean absolute path", clip(m.Point))
		}
		c.mounts = append(c.mounts, m)
		return nil
	})
}
