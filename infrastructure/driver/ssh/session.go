// SPDX-License-Identifier: Apache-2.0

package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
)

// receive is the one command ever sent: it unpacks the archive and runs the script in it. "complete" is the archive's last
// member, so a connection that broke on the way starts nothing. The greeting separates the answer from what a
// login shell may print.
const receive = `/bin/sh -c 'umask 077 && echo rack/1 && mkdir -p /run/rack && d=$(mktemp -d /run/rack/call.XXXXXX) || exit
trap "rm -rf $d" EXIT HUP INT TERM
tar -xf - -C "$d" && [ -e "$d/complete" ] && . "$d/call.sh"'`

const greeting = "rack/1\n"

// maxAnswer bounds what a host can make us keep: answers are a few KiB, the longest a log of 16 KiB.
const maxAnswer = 1 << 20

// host is one connection.
type host struct {
	target driver.Target
	client *ssh.Client
}

// Close ends the connection. Operations go on.
func (h *host) Close() error { return h.client.Close() }

// call runs a script with the files it needs and returns what it printed.
func (h *host) call(ctx context.Context, script string, files archive) (string, error) {
	input, err := files.pack(script)
	if err != nil {
		return "", fmt.Errorf("packing %s for host %s: %w", script, h.target.Address, err)
	}
	if ctx.Err() != nil {
		return "", unreachable(ctx, h.target, ctx.Err())
	}
	session, err := h.client.NewSession()
	if err != nil {
		return "", unreachable(ctx, h.target, err)
	}
	var stdout, stderr limited
	session.Stdin, session.Stdout, session.Stderr = bytes.NewReader(input), &stdout, &stderr
	command := receive
	if h.target.User != "root" {
		command = "sudo -n " + receive
	}
	// Wait can't be told to give up, so it may outlive the call; closing the connection ends it.
	ended := make(chan error, 1)
	go func() { ended <- session.Run(command) }()
	select {
	case <-ctx.Done():
		_ = session.Close()
		return "", unreachable(ctx, h.target, ctx.Err())
	case err = <-ended:
	}
	_ = session.Close()
	_, answer, greeted := strings.Cut(stdout.String(), greeting)
	var exit *ssh.ExitError
	switch {
	case err == nil && greeted:
		return answer, nil
	case errors.As(err, &exit) && !greeted && h.target.User != "root":
		return "", &driver.AuthFailedError{Address: h.target.Address, User: h.target.User, Stage: "sudo", Err: errors.New(firstLine(stderr.String()))}
	case errors.As(err, &exit):
		return "", &driver.OperationFailedError{Reason: script + ": " + firstLine(stderr.String()), ExitCode: exit.ExitStatus(), Tail: driver.Tail(stderr.String())}
	case err == nil:
		return "", &driver.OperationFailedError{Reason: script + ": the host's shell did not run it"}
	}
	return "", unreachable(ctx, h.target, err)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(driver.Tail(s), "\n")
	if line == "" {
		return "no explanation"
	}
	return line
}

// limited is a buffer that drops what goes beyond maxAnswer.
type limited struct{ bytes.Buffer }

// Write never fails, so that the session ends by itself.
func (l *limited) Write(p []byte) (int, error) {
	if room := maxAnswer - l.Len(); room > 0 {
		l.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
