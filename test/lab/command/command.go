// SPDX-License-Identifier: Apache-2.0

// Package command runs programs and puts the end of their output into errors.
package command

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// tail is how many bytes of a failed program's output its error repeats.
const tail = 2000

// Command is one program call.
type Command struct {
	Args  []string  // the program and its arguments
	Dir   string    // working directory; empty is the current one
	Env   []string  // added to the environment, "NAME=value"
	Stdin io.Reader // nil is no input
}

// Run runs a program and returns an error with the end of its output when it fails.
func Run(ctx context.Context, args ...string) error {
	_, err := Command{Args: args}.Output(ctx)
	return err
}

// Output runs a program and returns its standard output without surrounding space.
func Output(ctx context.Context, args ...string) (string, error) {
	return Command{Args: args}.Output(ctx)
}

// Output runs the command and returns its standard output without surrounding space.
func (c Command) Output(ctx context.Context) (string, error) {
	process := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	process.Dir = c.Dir
	process.Env = append(os.Environ(), c.Env...)
	process.Stdin = c.Stdin
	var stdout, both bytes.Buffer
	process.Stdout = io.MultiWriter(&stdout, &both)
	process.Stderr = &both
	if err := process.Run(); err != nil {
		said := strings.TrimSpace(both.String())
		if len(said) > tail {
			said = "…" + said[len(said)-tail:]
		}
		return strings.TrimSpace(stdout.String()), fmt.Errorf("running %s: %w: %s", strings.Join(c.Args, " "), err, said)
	}
	return strings.TrimSpace(stdout.String()), nil
}
