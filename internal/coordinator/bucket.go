package coordinator

import "time"

// Bucket is the state of one token bucket. Time comes from events alone. Its
// state changes only when a token is taken, so that it makes no difference how
// often it is looked at.
type Bucket struct {
	// Left is how many tokens there were at Since.
	Left int `json:"left"`
	// Since is when the next token began to grow; zero while the bucket is full.
	Since time.Time `json:"since,omitzero"`
}

// unlimited: nothing is charged and nothing is recorded.
func (b Budget) unlimited() bool { return b.Burst < 0 }

// filled returns the bucket as it is at now.
func (k Bucket) filled(b Budget, now time.Time) Bucket {
	if k.Left >= b.Burst {
		// Nothing grows above the burst. What the operator has cut down counts at once.
		return Bucket{Left: min(k.Left, b.Join+b.Burst)}
	}
	grown := now.Sub(k.Since) / b.Every
	switch {
	case grown <= 0:
		return k
	case grown >= time.Duration(b.Burst-k.Left):
		return Bucket{Left: b.Burst}
	}
	return Bucket{k.Left + int(grown), k.Since.Add(grown * b.Every)}
}

// take takes a token, if there is one.
func (k *Bucket) take(b Budget, now time.Time) bool {
	full := k.filled(b, now)
	if full.Left == 0 {
		return false
	}
	full.Left--
	if full.Left < b.Burst && full.Since.IsZero() {
		full.Since = now
	}
	*k = full
	return true
}

// next returns when there will be one token more, or zero if there never will.
func (k Bucket) next(b Budget, now time.Time) time.Time {
	k = k.filled(b, now)
	if k.Left >= b.Burst {
		return time.Time{}
	}
	return k.Since.Add(b.Every)
}

// notAfter mends a time that is ahead of now, because the host's clock was set
// back. It reports whether there was need to.
func notAfter(t *time.Time, now time.Time) bool {
	if !t.After(now) {
		return false
	}
	*t = now
	return true
}
