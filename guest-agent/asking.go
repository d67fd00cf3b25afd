package main

import (
	"time"

	"guardring/guest-agent/config"
	"guardring/internal/statussock"
)

// statusTime is how long the agent may take to answer.
const statusTime = 5 * time.Second

// ask returns the running agent's document. An error says that none runs, or why it
// cannot be asked.
func ask(cfg config.Config) ([]byte, error) {
	return statussock.Fetch(cfg.StatusSocket(), "the guest agent", statusTime)
}
