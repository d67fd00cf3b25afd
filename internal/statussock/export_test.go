package statussock

import "time"

// SetReaderTime changes how long a reader may take. Call it before Serve.
func (l *Listener) SetReaderTime(d time.Duration) { l.readerTime = d }
