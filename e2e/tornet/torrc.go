package tornet

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// votingInterval is the authorities' period in seconds. Shorter ones leave a loaded machine without votes.
const votingInterval = 10

// commonTorrc holds what every tor of the network needs.
func (n *Network) commonTorrc(ids map[string]identity, ipv6 bool) string {
	var b strings.Builder
	b.WriteString(`TestingTorNetwork 1
EnforceDistinctSubnets 1
CookieAuthentication 1
PathsNeededToBuildCircuits 0.67
GeoIPFile /dev/null
GeoIPv6File /dev/null
ShutdownWaitLength 2
LogTimeGranularity 1
SafeLogging 0
AvoidDiskWrites 0
`)
	for _, a := range n.Authorities {
		fmt.Fprintf(&b, "DirAuthority %s orport=%d no-v2 v3ident=%s %s:%d %s\n",
			a.Name, a.Port, ids[a.Name].v3ident, a.Address, a.Port+1, a.Fingerprint)
	}
	return b.String()
}

func (t *Tor) commonLines() string {
	return fmt.Sprintf("Nickname %s\nDataDirectory %s\nControlPort unix:%s\nCookieAuthFile %s\nPidFile %s/pid\nLog notice file %s\n",
		t.Name, t.DataDir(), t.ControlSocket(), t.CookieFile(), t.Dir, t.NoticeLog())
}

func (r *Relay) addressLines() string {
	s := fmt.Sprintf("Address %s\nORPort %s:%d IPv4Only\nOutboundBindAddress %s\n", r.Address, r.Address, r.Port, r.Address)
	if r.IPv6Port != 0 {
		s += fmt.Sprintf("ORPort [::1]:%d IPv6Only\n", r.IPv6Port)
	}
	return s
}

func (r *Relay) writeTorrc() error {
	return os.WriteFile(r.Torrc(), []byte(r.config+r.addressLines()), 0o600)
}

// writeRelays writes the torrc of every relay, and what authorities must know beforehand: who may be a guard or an exit,
// bandwidths, and a history of uptime (a guard must be Stable, which nobody is who was born a second ago).
func (n *Network) writeRelays() error {
	bandwidths, stability := n.pretended(time.Now().UTC())
	common := n.common + "SocksPort 0\nAssumeReachable 1\n"
	for i, a := range n.Authorities {
		bw := a.Dir + "/bandwidths"
		if err := os.WriteFile(bw, []byte(bandwidths), 0o600); err != nil {
			return err
		}
		if err := os.WriteFile(a.DataDir()+"/router-stability", []byte(stability), 0o600); err != nil {
			return err
		}
		a.config = common + a.commonLines() + n.authorityLines(i, bw)
	}
	for _, g := range n.Guards {
		g.config = common + g.commonLines() + g.family + "ExitPolicy reject *:*\n"
	}
	for _, e := range n.Exits {
		e.config = common + e.commonLines() + "ExitRelay 1\nExitPolicyRejectPrivate 0\nExitPolicy reject 0.0.0.0/8:*,accept *:*\n"
	}
	for _, r := range n.relays() {
		if err := r.writeTorrc(); err != nil {
			return err
		}
	}
	return nil
}

// relays are all, authorities first.
func (n *Network) relays() []*Relay { return slices.Concat(n.Authorities, n.Guards, n.Exits) }

// pretended are the files from which authorities know how fast relays are, and that they have been up for a month.
func (n *Network) pretended(now time.Time) (bandwidths, stability string) {
	const layout = "2006-01-02 15:04:05"
	var bw, st strings.Builder
	fmt.Fprintf(&bw, "%d\n", now.Unix())
	fmt.Fprintf(&st, "format 2\nstored-at %s\ntracked-since %s\nlast-downrated %s\ndata\n", now.Format(layout),
		now.AddDate(0, 0, -30).Format(layout), now.Format(layout))
	for _, r := range n.relays() {
		fmt.Fprintf(&bw, "node_id=$%s bw=1000 nick=%s\n", r.Fingerprint, r.Name)
		fmt.Fprintf(&st, "R %s\n+MTBF 8640000 1.00000 S=%s\n+WFU 8640000 8640000\n", r.Fingerprint,
			now.AddDate(0, 0, -1).Format(layout))
	}
	st.WriteString(".\n")
	return bw.String(), st.String()
}

// authorityLines are for authority i, which votes by the bandwidths in that file.
func (n *Network) authorityLines(i int, bandwidths string) string {
	a := n.Authorities[i]
	lines := fmt.Sprintf(`AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
ContactInfo auth%[1]d@loopback.invalid
DirPort %[2]s:%[3]d
V3AuthVotingInterval %[4]d
V3AuthVoteDelay 2
V3AuthDistDelay 2
TestingV3AuthInitialVotingInterval %[4]d
TestingV3AuthInitialVoteDelay 2
TestingV3AuthInitialDistDelay 2
V3AuthNIntervalsValid 100
TestingAuthDirTimeToLearnReachability 0
TestingDirAuthVoteHSDir *
TestingDirAuthVoteGuard %[5]s
TestingDirAuthVoteGuardIsStrict 1
TestingDirAuthVoteExit %[6]s
TestingDirAuthVoteExitIsStrict 1
V3BandwidthsFile %[7]s
AuthDirMaxServersPerAddr 0
ExitPolicy reject *:*
`, i, a.Address, a.Port+1, votingInterval, listed(n.Guards), listed(n.Exits), bandwidths)
	if len(n.cfg.IPv6) > 0 {
		lines += "AuthDirHasIPv6Connectivity 1\n"
	}
	return lines
}

// listed names relays as options do.
func listed(rs []*Relay) string {
	var names []string
	for _, r := range rs {
		names = append(names, "$"+r.Fingerprint)
	}
	return strings.Join(names, ",")
}
