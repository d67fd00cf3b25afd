package report

// Request is what the operator asks of the acting coordinator, one JSON line on
// its command socket.
type Request struct {
	// Allow names a gateway, or a member (gateway/instance), that may do once what
	// its budgets keep waiting now.
	Allow string `json:"allow"`
}

// Answer is the coordinator's.
type Answer struct {
	Error   string `json:"error,omitempty"`
	Standby bool   `json:"standby,omitempty"` // it does not act: ask the other one
	// Allowed are the members that the request was about.
	Allowed []Allowance `json:"allowed,omitempty"`
}

// Allowance is what one member may now do.
type Allowance struct {
	Member  string `json:"member"`
	Waiting int    `json:"waiting"` // conflicts and guards that waited; 0: nothing did, so nothing was allowed
}
