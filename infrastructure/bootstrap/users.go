// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"path"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// account is the name rule of shadow-utils.
var account = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,30}$`)

func (c *cloudConfig) readUsers(n *yaml.Node, p string) error {
	return list(n, p, func(n *yaml.Node, p string) error {
		u := User{LockPassword: true}
		var groups string
		if err := mapping(n, p, map[string]field{
			"name":                line(&u.Name),
			"gecos":               line(&u.Gecos),
			"groups":              line(&groups),
			"homedir":             line(&u.HomeDir),
			"inactive":            boolean(&u.Inactive),
			"shell":               line(&u.Shell),
			"passwd":              line(&u.PasswordHash),
			"primary_group":       line(&u.PrimaryGroup),
			"lock_passwd":         boolean(&u.LockPassword),
			"sudo":                line(&u.Sudo),
			"ssh_authorized_keys": lines(&u.SSHAuthorizedKeys),
		}); err != nil {
			return err
		}
		for g := range strings.SplitSeq(groups, ",") {
			if g = strings.TrimSpace(g); g != "" {
				u.Groups = append(u.Groups, g)
			}
		}
		c.users = append(c.users, u)
		return validUser(u, p)
	})
}

func validUser(u User, p string) error {
	switch {
	case !account.MatchString(u.Name):
		return invalid(p+".name", "%q is not a user name", clip(u.Name))
	case u.Name == "root" && (u.HomeDir != "" || u.Shell != ""):
		return invalid(p+".name", "home and shell of root can't be changed")
	case u.PrimaryGroup != "" && !account.MatchString(u.PrimaryGroup):
		return invalid(p+".primary_group", "%q is not a group name", clip(u.PrimaryGroup))
	case u.HomeDir != "" && !path.IsAbs(u.HomeDir):
		return invalid(p+".homedir", "must be an absolute path")
	case u.Shell != "" && !path.IsAbs(u.Shell):
		return invalid(p+".shell", "must be an absolute path")
	case strings.Contains(u.Gecos, ":"):
		return invalid(p+".gecos", "must not contain ':'")
	case strings.Contains(u.PasswordHash, ":"):
		return invalid(p+".passwd", "is not a password hash")
	}
	for _, g := range u.Groups {
		if !account.MatchString(g) {
			return invalid(p+".groups", "%q is not a group name", clip(g))
		}
	}
	return nil
}
