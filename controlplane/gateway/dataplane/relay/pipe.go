// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import "golang.org/x/sys/unix"

const (
	// pipeSize is what is asked for: with 1 MiB, splice costs two thirds of what it does with 256 KiB.
	// The kernel gives a user without privileges less once all his pipes together have 64 MiB
	// (fs.pipe-user-pages-soft), which is well then, too.
	pipeSize = 1 << 20
	// maxPipes bounds the pipes of one loop, so that four loops stay within that. Directions that get
	// none are copied.
	maxPipes = 16
	// sparePipes are kept open when nobody streams.
	sparePipes = 4
)

type pipe struct{ read, write int32 }

// pipes lends pipes to streaming directions.
type pipes struct {
	spare []*pipe
	lent  int
}

// get returns an empty pipe, or nil when there is none to be had.
func (p *pipes) get() *pipe {
	if p.lent == maxPipes {
		return nil
	}
	if last := len(p.spare) - 1; last >= 0 {
		got := p.spare[last]
		p.spare = p.spare[:last]
		p.lent++
		return got
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return nil
	}
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize)
	p.lent++
	return &pipe{read: int32(fds[0]), write: int32(fds[1])}
}

// put takes back what get gave.
func (p *pipes) put(back *pipe, empty bool) {
	p.lent--
	if empty && len(p.spare) < sparePipes {
		p.spare = append(p.spare, back)
		return
	}
	back.close()
}

func (p *pipes) close() {
	for _, one := range p.spare {
		one.close()
	}
	p.spare = nil
}

func (p *pipe) close() {
	closeFile(p.read)
	closeFile(p.write)
}
