package tornet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// makeFamilies gives the guards their MyFamily and FamilyId lines, and the keys of the latter.
func (n *Network) makeFamilies(ctx context.Context) error {
	declare := func(who int, others []int) {
		var fps []string
		for _, o := range others {
			fps = append(fps, "$"+n.Guards[o].Fingerprint)
		}
		n.Guards[who].family += "MyFamily " + strings.Join(fps, ",") + "\n"
	}
	for _, group := range n.cfg.Families {
		for _, g := range group {
			declare(g, group)
		}
	}
	for _, who := range slices.Sorted(maps.Keys(n.cfg.Declares)) {
		declare(who, n.cfg.Declares[who])
	}
	for i, group := range n.cfg.FamilyIDs {
		if err := n.makeFamilyID(ctx, "family"+strconv.Itoa(i), group); err != nil {
			return fmt.Errorf("family key %d: %w", i, err)
		}
	}
	return nil
}

var familyID = regexp.MustCompile(`(?m)^FamilyId (\S+)$`)

// makeFamilyID makes a family key and gives it to the guards.
func (n *Network) makeFamilyID(ctx context.Context, name string, guards []int) error {
	torrc := filepath.Join(n.Dir, name+".torrc") // Tor refuses /dev/null here
	if err := os.WriteFile(torrc, nil, 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "tor", "--keygen-family", name, "--defaults-torrc", "/dev/null", "-f", torrc, "--Log", "err stderr")
	cmd.Dir = n.Dir // the key is written there
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("tor --keygen-family: %w: %s", err, out)
	}
	m := familyID.FindSubmatch(out)
	if m == nil {
		return errors.New("tor --keygen-family prints no FamilyId line")
	}
	file := name + ".secret_family_key"
	key, err := os.ReadFile(filepath.Join(n.Dir, file))
	if err != nil {
		return err
	}
	for _, g := range guards {
		r := n.Guards[g]
		r.FamilyID = string(m[1])
		r.family += "FamilyId " + r.FamilyID + "\n"
		if err := os.WriteFile(filepath.Join(r.DataDir(), "keys", file), key, 0o600); err != nil {
			return err
		}
	}
	return nil
}
