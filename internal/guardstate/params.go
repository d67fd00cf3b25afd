package guardstate

// Params are the consensus parameters that decide how many guards a Tor keeps.
// 0 means "not in the consensus": Tor's own default holds.
type Params struct {
	NPrimaryGuards         int // guard-n-primary-guards (3)
	NPrimaryDirGuardsToUse int // guard-n-primary-dir-guards-to-use (3)
	NPrimaryGuardsToUse    int // guard-n-primary-guards-to-use (1)
	UseFamilyLists         int // use-family-lists
	UseFamilyIDs           int // use-family-ids
}
