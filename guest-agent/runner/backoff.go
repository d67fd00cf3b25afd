package runner

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff gives the pauses between attempts: doubling from least to most, each
// shortened at random by up to a quarter so that several agents do not knock
// together.
type backoff struct {
	least, most time.Duration
	pause       time.Duration
}

func (b *backoff) next() time.Duration {
	b.pause = min(max(2*b.pause, b.least), b.most)
	return b.pause - rand.N(b.pause/4+1)
}

func (b *backoff) reset() { b.pause = 0 }

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
