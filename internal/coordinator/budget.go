package coordinator

// pay takes one token of a member's budget, and reports whether there was one.
func (c *Coordinator) pay(*member, BudgetName) bool { return true }

// visible reports whether guard i counts: it was paid for.
func (p *publication) visible(int) bool { return true }
