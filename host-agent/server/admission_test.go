package server

import (
	"errors"
	"os"
	"testing"

	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

func TestUsersAndGroups(t *testing.T) {
	me := uint32(os.Geteuid())
	for name, tt := range map[string]struct {
		cfg      Gateway
		uid, gid uint32
		from     side
		want     bool
	}{
		"own user":              {Gateway{UID: KeepID, GID: KeepID}, me, 9, guestSide, true},
		"root":                  {Gateway{UID: KeepID, GID: KeepID}, 0, 9, guestSide, true},
		"stranger":              {Gateway{UID: KeepID, GID: KeepID}, 5000, 5000, guestSide, false},
		"all ones, nothing set": {Gateway{UID: KeepID, GID: KeepID}, 1<<32 - 1, 1<<32 - 1, guestSide, false},
		"socket's owner":        {Gateway{UID: 5000, GID: KeepID}, 5000, 9, guestSide, true},
		"socket's group":        {Gateway{UID: KeepID, GID: 77}, 5000, 77, guestSide, true},
		"list without root":     {Gateway{AllowUIDs: []uint32{64055}}, 0, 0, guestSide, false},
		"list":                  {Gateway{AllowUIDs: []uint32{1, 64055}}, 64055, 9, guestSide, true},
		"group list":            {Gateway{AllowUIDs: []uint32{1}, AllowGIDs: []uint32{9}}, 64055, 9, guestSide, true},
		"host: socket's owner":  {Gateway{UID: 5000, GID: KeepID}, 5000, 9, hostSide, false},
		"host: list":            {Gateway{AllowUIDs: []uint32{5000}}, 5000, 9, hostSide, false},
		"host: root":            {Gateway{}, 0, 9, hostSide, true},
	} {
		if got := allowed(tt.cfg, tt.uid, tt.gid, tt.from); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestPeersThatMayNot(t *testing.T) {
	cfg := testConfig(runDir(t), "users", "label")
	cfg.Gateways[0].AllowUIDs = []uint32{1<<32 - 2}
	cfg.Gateways[1].Label = "libvirt-7f3c"
	r := startServer(t, cfg)
	for name, reason := range map[string]string{
		"users": "user and group not allowed",
		"label": "not confined by the AppArmor profile",
	} {
		_, err := ivshmem.Dial(guestSocket(r.run, name), shmproto.Vectors, patience)
		if !errors.Is(err, ivshmem.ErrRefused) || !errors.Is(err, ivshmem.RefusedDenied) {
			t.Errorf("%s: %v", name, err)
		}
		if g := r.gateway(t, name); g.Refused[reason] != 1 || g.Attachment != 0 {
			t.Errorf("%s: status %+v", name, g)
		}
	}
}
