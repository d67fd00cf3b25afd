package shmproto

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// These fail to compile when a part of the layout grows out of its room.
var (
	_ [hostAreaOff - headerSize]byte
	_ [hostOrdersOff - hostLeaseOff - leaseCellSize]byte
	_ [hostRingOff - hostOrdersOff - MaxMembers*orderCellSize]byte
	_ [hostAreaSize - hostRingOff - ringSize]byte
	_ [guestAreaOff - hostAreaOff - HostSeats*hostAreaSize]byte
	_ [guestRingOff - guestLockOff - lockSize]byte
	_ [guestPublicationsOff - guestRingOff - ringSize]byte
	_ [guestAreaSize - guestPublicationsOff - MaxMembers*publicationCellSize]byte
	_ [RegionSize - guestAreaOff - guestAreaSize]byte
	_ [lockSlotSize - lockRevokedOff - 8*MaxWriters]byte
	_ [(orderCellSize-cellBuffersOff)/2 - recordHeaderSize - maxOrderPayload]byte
	_ [LeaseBoardSize - boardCellsOff - HostSeats*leaseCellSize]byte
)

type layoutRow struct{ off, size int }

// wantLayout is the byte table in literal constants of the code, by section.
var wantLayout = map[string]map[string]layoutRow{
	"Region": {
		"header":      {0, headerSize},
		"host area 0": {hostAreaOff, hostAreaSize},
		"host area 1": {hostAreaOff + hostAreaSize, hostAreaSize},
		"guest area":  {guestAreaOff, guestAreaSize},
		"end":         {RegionSize, 0},
	},
	"Header": {
		"magic":                 {headerMagicOff, 8},
		"checksum":              {headerChecksumOff, 8},
		"lowest version":        {headerLowestOff, 4},
		"highest version":       {headerHighestOff, 4},
		"incompatible features": {headerIncompatibleOff, 8},
		"compatible features":   {headerCompatibleOff, 8},
		"region size":           {headerSizeOff, 8},
		"region epoch":          {headerEpochOff, 16},
		"gateway name length":   {headerNameLenOff, 4},
		"gateway name":          {headerNameOff, MaxNameLen},
		"host area offset":      {headerTableOff, 4},
		"host area size":        {headerTableOff + 4, 4},
		"host seats":            {headerTableOff + 8, 4},
		"guest area offset":     {headerTableOff + 12, 4},
		"guest area size":       {headerTableOff + 16, 4},
		"member slots":          {headerTableOff + 20, 4},
		"writer slots":          {headerTableOff + 24, 4},
		"ring records":          {headerTableOff + 28, 4},
		"order cell size":       {headerTableOff + 32, 4},
		"publication cell size": {headerTableOff + 36, 4},
		"attachment":            {headerAttachmentOff, 8},
		"ended":                 {headerEndedOff, 8},
		"end":                   {headerSize, 0},
	},
	"Host area": {
		"lease cell":  {hostLeaseOff, leaseCellSize},
		"order cells": {hostOrdersOff, MaxMembers * orderCellSize},
		"ring":        {hostRingOff, ringSize},
		"end":         {hostAreaSize, 0},
	},
	"Guest area": {
		"lock":              {guestLockOff, lockSize},
		"ring":              {guestRingOff, ringSize},
		"publication cells": {guestPublicationsOff, MaxMembers * publicationCellSize},
		"end":               {guestAreaSize, 0},
	},
	"Record": {
		"checksum":       {recordChecksumOff, 8},
		"version":        {recordVersionOff, 8},
		"payload length": {recordShapeOff, 4},
		"kind":           {recordShapeOff + 4, 2},
		"writer":         {recordShapeOff + 6, 2},
		"incarnation":    {recordIncarnationOff, 8},
		"generation":     {recordGenerationOff, 8},
		"seq":            {recordSeqOff, 8},
		"attachment":     {recordAttachmentOff, 8},
		"end":            {recordHeaderSize, 0},
	},
	"Lock": {
		"incarnation": {lockIncarnationOff, 8},
		"state":       {lockStateOff, 8},
		"ticket":      {lockTicketOff, 8},
		"revoked 0":   {lockRevokedOff, 8},
		"revoked 1":   {lockRevokedOff + 8, 8},
		"revoked 2":   {lockRevokedOff + 16, 8},
		"revoked 3":   {lockRevokedOff + 24, 8},
		"end":         {lockSlotSize, 0},
	},
	"Ring": {
		"head":    {ringHeadOff, 8},
		"records": {ringRecordsOff, ringRecords * ringRecordSize},
		"end":     {ringSize, 0},
	},
	"Ring record": {
		"checksum":    {journalChecksumOff, 8},
		"number":      {journalSeqOff, 8},
		"kind":        {journalShapeOff, 2},
		"member slot": {journalShapeOff + 2, 2},
		"writer":      {journalShapeOff + 4, 2},
		"incarnation": {journalIncarnationOff, 8},
		"generation":  {journalGenerationOff, 8},
		"arguments":   {journalArgsOff, 24},
		"end":         {ringRecordSize, 0},
	},
	"Lease board": {
		"magic":        {boardMagicOff, 8},
		"format":       {boardVersionOff, 8},
		"lease cell 0": {boardCellsOff, leaseCellSize},
		"lease cell 1": {boardCellsOff + leaseCellSize, leaseCellSize},
		"end":          {LeaseBoardSize, 0},
	},
}

// docTables reads the tables of docs/LAYOUT.md: per section, the rows' cells.
func docTables(t *testing.T) map[string][][]string {
	t.Helper()
	text, err := os.ReadFile("../docs/LAYOUT.md")
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string][][]string{}
	section := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "## "); ok {
			section = name
		}
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| ---") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if cells[0] == "ring record" {
			section = "Ring record"
		}
		tables[section] = append(tables[section], cells)
	}
	return tables
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

func TestLayoutDocument(t *testing.T) {
	tables := docTables(t)
	for section, want := range wantLayout {
		end, seen := 0, 0
		for _, cells := range tables[section][1:] {
			name, off, size := cells[0], number(t, cells[1]), number(t, cells[2])
			if off != end {
				t.Errorf("%s: %q starts at %#x, the row above ends at %#x", section, name, off, end)
			}
			end = off + size
			if name == "reserved" {
				continue
			}
			seen++
			if got := (layoutRow{off, size}); got != want[name] {
				t.Errorf("%s: %q is %#x in the document and %#x in the code", section, name, got, want[name])
			}
		}
		if seen != len(want)-1 {
			t.Errorf("%s: %d rows in the document, %d in the code", section, seen, len(want)-1)
		}
		if end != want["end"].off {
			t.Errorf("%s: the document ends at %#x, the code at %#x", section, end, want["end"].off)
		}
	}
}

func TestLayoutCells(t *testing.T) {
	want := [][]int{
		{cellVersionOff, 8, 8, 8},
		{cellVersionOff + 8, cellBuffersOff - 8, cellBuffersOff - 8, cellBuffersOff - 8},
	}
	buffers := []int{cellBuffersOff}
	for _, size := range []int{leaseCellSize, orderCellSize, publicationCellSize} {
		c := cell{make([]byte, size)}
		buffers = append(buffers, c.bufferSize())
		if c.bufferOff(2) != cellBuffersOff || c.bufferOff(1) != cellBuffersOff+c.bufferSize() {
			t.Errorf("version v is not in buffer v mod 2")
		}
		if c.bufferSize()%8 != 0 {
			t.Errorf("buffer of %#x bytes is not whole words", c.bufferSize())
		}
	}
	want = append(want, buffers, buffers)
	for i, cells := range docTables(t)["Cell"][1:] {
		for k, w := range want[i] {
			if cells[1+k] == "after buffer 0" {
				continue
			}
			if got := number(t, cells[1+k]); got != w {
				t.Errorf("row %q, column %d: %#x in the document, %#x in the code", cells[0], k, got, w)
			}
		}
	}
	if got, want := maxPublicationPayload, 0x7fa0; got != want {
		t.Errorf("publication payload of %#x bytes, want %#x", got, want)
	}
}

func TestLayoutPayloads(t *testing.T) {
	want := []string{
		fmt.Sprintf("lease identity %d %#x", leaseIdentity, leaseIdentitySize),
		fmt.Sprintf("lease flags %d %#x", leaseFlags, leaseFlagsSize),
		fmt.Sprintf("order member %d name", orderMember),
		fmt.Sprintf("order identity %d %#x", orderIdentity, orderIdentitySize),
		fmt.Sprintf("order answers %d %#x", orderAnswers, orderAnswersSize),
		fmt.Sprintf("order exclusions %d %#x each", orderExclusions, fingerprintSize),
		fmt.Sprintf("publication member %d name", pubMember),
		fmt.Sprintf("publication condition %d %#x", pubCondition, pubConditionSize),
		fmt.Sprintf("publication Tor version %d text", pubVersion),
		fmt.Sprintf("publication receipt %d %#x", pubReceipt, pubReceiptSize),
		fmt.Sprintf("publication guards %d %#x each", pubGuards, pubGuardSize),
		fmt.Sprintf("publication addresses %d %#x or %#x each", pubAddrs, pubAddrSize+4, pubAddrSize+16),
		fmt.Sprintf("publication family IDs %d %#x + %#x each", pubFamilyIDs, pubIDsSize, familyIDSize),
		fmt.Sprintf("publication families %d %#x + %#x each", pubFamilies, pubFamilySize, fingerprintSize),
		fmt.Sprintf("publication role %d name", pubRole),
		fmt.Sprintf("publication layer 2 %d %#x each", pubLayer2, fingerprintSize),
		fmt.Sprintf("publication layer 3 %d %#x each", pubLayer3, fingerprintSize),
	}
	rows := docTables(t)["Payloads"][1:]
	if len(rows) != len(want) {
		t.Fatalf("%d rows in the document, %d in the code", len(rows), len(want))
	}
	for i, cells := range rows {
		if got := strings.Join(cells[:4], " "); got != want[i] {
			t.Errorf("document: %s; code: %s", got, want[i])
		}
	}
}

// Literal numbers, so that a changed constant does not change document and test
// with it unnoticed.
func TestLayoutLiterals(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want uint64
	}{
		{"region size", RegionSize, 0x100000},
		{"magic", regionMagic, le.Uint64([]byte("GUARDRNG"))},
		{"lease board magic", boardMagic, le.Uint64([]byte("GRLEASES"))},
		{"counter start", counterStart, 0xfffffffffffffffa},
		{"first publication cell", guestAreaOff + guestPublicationsOff, 0x40000},
		{"lock of slot 3", guestAreaOff + guestLockOff + 3*lockSlotSize, 0x300c0},
		{"second host's ring head", hostAreaOff + hostAreaSize + hostRingOff, 0x25000},
		{"known member flags", uint64(knownMemberFlags), 0x1ff},
		{"known guard flags", uint64(knownGuardFlags), 0x3ff},
	} {
		if c.got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, c.got, c.want)
		}
	}
}
