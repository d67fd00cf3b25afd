package rotation

import "time"

// Config of one machine. The zero value of a field means its default.
type Config struct {
	Member         string        // instance name
	Observe        bool          // publish, obey no order
	Cut            bool          // close circuits that carry streams too (default: linger until the streams end)
	MinPassPercent int           // least share of the network's guards that must pass the filter with our rejects (30)
	PublishGap     time.Duration // least time between two publications (1 s)
	PollEvery      time.Duration // how often to ask although no event came (60 s)
	IntroGap       time.Duration // between two closed introduction circuits (30 s)
	MaxRounds      int           // how often to set the option again against somebody else within an hour (5)
}
