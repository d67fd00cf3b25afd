package shmproto

import "math"

// The layout, as docs/LAYOUT.md has it row by row. Offsets are in bytes, words
// are 8 bytes, little-endian; big-endian machines are not supported.
const (
	// Versions of the protocol that this build speaks.
	lowestVersion  = 1
	highestVersion = 1

	// Feature bits that this build knows.
	knownIncompatible = 0

	// FeatureEnded is the compatible feature bit by which a server says that it
	// keeps the word ended (SetEnded).
	FeatureEnded = 1 << 0

	// The header, offsets from the start of the region. The magic, the checksum
	// and the length of the static part are the same in every version.
	headerMagicOff        = 0x00
	headerChecksumOff     = 0x08
	headerLowestOff       = 0x10
	headerHighestOff      = 0x14
	headerIncompatibleOff = 0x18
	headerCompatibleOff   = 0x20
	headerSizeOff         = 0x28
	headerEpochOff        = 0x30
	headerNameLenOff      = 0x40
	headerNameOff         = 0x48
	headerTableOff        = 0x68
	headerStaticSize      = 0x100
	headerAttachmentOff   = 0x100
	headerEndedOff        = 0x108
	headerSize            = 0x1000

	// The host seats' areas.
	hostAreaOff   = 0x10000
	hostAreaSize  = 0x10000
	hostLeaseOff  = 0x0000 // from here on offsets within the area
	hostOrdersOff = 0x1000
	hostRingOff   = 0x5000

	// The guest area.
	guestAreaOff         = 0x30000
	guestAreaSize        = 0x90000
	guestLockOff         = 0x00000 // from here on offsets within the area
	guestRingOff         = 0x01000
	guestPublicationsOff = 0x10000

	// A cell: the version word in a line of its own, then two buffers.
	cellVersionOff      = 0x00
	cellBuffersOff      = 0x40
	leaseCellSize       = 0x200
	orderCellSize       = 0x800
	publicationCellSize = 0x10000

	// A record, at the start of a buffer.
	recordChecksumOff    = 0x00
	recordVersionOff     = 0x08
	recordShapeOff       = 0x10 // length (32 bits), kind (16), writer (16)
	recordIncarnationOff = 0x18
	recordGenerationOff  = 0x20
	recordSeqOff         = 0x28
	recordAttachmentOff  = 0x30
	recordReservedOff    = 0x38
	recordHeaderSize     = 0x40

	// A ring: the head word in a line of its own, then records of one line.
	ringHeadOff           = 0x00
	ringRecordsOff        = 0x40
	ringRecords           = 256
	ringRecordSize        = 0x40
	ringSize              = ringRecordsOff + ringRecords*ringRecordSize
	journalChecksumOff    = 0x00
	journalSeqOff         = 0x08
	journalShapeOff       = 0x10 // kind (16 bits), slot (16), writer (16), zero (16)
	journalIncarnationOff = 0x18
	journalGenerationOff  = 0x20
	journalArgsOff        = 0x28

	// The lock: one line per writer slot.
	lockSlotSize       = 0x40
	lockIncarnationOff = 0x00
	lockStateOff       = 0x08
	lockTicketOff      = 0x10
	lockRevokedOff     = 0x20 // one word per writer slot
	lockSize           = MaxWriters * lockSlotSize

	// The lease board.
	boardMagicOff   = 0x00
	boardVersionOff = 0x08
	boardCellsOff   = 0x40
)

const (
	regionMagic = 0x474e524452415547 // "GUARDRNG"
	boardMagic  = 0x53455341454c5247 // "GRLEASES"
	boardFormat = 1
)

// counterStart is the value of versions, ring sequence numbers and lock tickets
// in a fresh region: so near the wrap that every test crosses it.
const counterStart = math.MaxUint64 - 5

// Record kinds.
const (
	kindLease       = 1
	kindOrder       = 2
	kindPublication = 3
)

// before reports whether counter a comes before b, across the wrap: as long as
// they are less than 2^63 apart.
func before(a, b uint64) bool { return int64(a-b) < 0 }

// hostArea returns the area of a host seat.
func hostArea(b []byte, seat int) []byte {
	return b[hostAreaOff:][:HostSeats*hostAreaSize][seat*hostAreaSize:][:hostAreaSize]
}

func guestArea(b []byte) []byte { return b[guestAreaOff:][:guestAreaSize] }

func leaseCell(area []byte) cell { return cell{area[hostLeaseOff:][:leaseCellSize]} }

func orderCell(area []byte, slot int) cell {
	return cell{area[hostOrdersOff:][:MaxMembers*orderCellSize][slot*orderCellSize:][:orderCellSize]}
}

func publicationCell(area []byte, slot int) cell {
	return cell{area[guestPublicationsOff:][:MaxMembers*publicationCellSize][slot*publicationCellSize:][:publicationCellSize]}
}
