// Package consensus reads Tor's network-status consensus (dir-spec, "network
// status documents"), either flavour: ns, as in cached-consensus, and
// microdesc, as in cached-microdesc-consensus. It is pure: bytes in, relays out.
//
// Trust: signatures are not checked. Whoever gives us the file vouches for it
// (the operator, from a Tor of the host's own). It may still be damaged, cut off
// or something else altogether, so everything that is kept is checked, sizes are
// bounded, and an error names the line.
package consensus
