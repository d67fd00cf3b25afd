package runner

import "guardring/shmproto"

// meaning says in plain words what a publication's state, selection and flags cost or
// forbid. Empty: nothing special.
func meaning(p *shmproto.Publication) []string {
	out := []string{}
	say := func(cond bool, text string) {
		if cond {
			out = append(out, text)
		}
	}
	has := func(f shmproto.MemberFlags) bool { return p.Flags&f != 0 }
	bridges := p.Selection == shmproto.SelectionBridges
	say(p.State == shmproto.MemberRefused,
		"this Tor is a relay (ORPort): it cannot be a member, and nothing of it is changed; leave it out of instances: in the configuration")
	say(bridges,
		"this Tor uses bridges: it is only observed; bridges are neither compared nor given up, and their addresses do not leave this gateway")
	say(p.State == shmproto.MemberObserveOnly && !bridges,
		"policy observe: duplicates are seen and stay")
	say(p.Selection == shmproto.SelectionRestricted,
		"EntryNodes or a firewall leave Tor so few guards that it uses its restricted selection: no guard of it is given up, everyone stays connected; "+
			"a duplicate stays unless the other Tor came later")
	say(has(shmproto.MemberFewGuards) && p.Selection != shmproto.SelectionRestricted,
		"EntryNodes, a firewall or a small network leave too few guards: no further guard is given up, everyone stays connected; a duplicate stays unless the other Tor came later")
	say(has(shmproto.MemberTruncated),
		"some guards, addresses or pinned layers have no room in the publication and are not compared")
	say(has(shmproto.MemberFamiliesLeftOut),
		"the declared families of some guards have no room in the publication and are not compared; those of the guards that matter most are")
	return out
}
