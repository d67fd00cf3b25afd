package runner

import (
	"sync"

	"guardring/guest-agent/rotation"
)

// command is an action for a link. It is void unless the link is still in the
// session in which the machine asked for it.
type command struct {
	session uint64
	action  rotation.Action
}

// mailbox holds the commands for a link. The loop never waits to put one: the
// machine has few outstanding at a time.
type mailbox struct {
	ready chan struct{} // holds a token while there are commands

	mu       sync.Mutex
	commands []command
}

func (b *mailbox) put(c command) {
	b.mu.Lock()
	b.commands = append(b.commands, c)
	b.mu.Unlock()
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

func (b *mailbox) take() []command {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.commands
	b.commands = nil
	return c
}
