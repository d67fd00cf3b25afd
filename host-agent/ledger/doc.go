// Package ledger keeps the coordinator's durable record: a directory with one
// file per term, which only the coordinator of that term writes.
//
//	epoch                 names the ledger: one line, written once
//	EPOCH-TERM.term       empty; who creates it holds the term
//	EPOCH-TERM.ledger     the records of that term
//	*.tmp                 a file being written; never read
//	lock                  flock: shared by coordinators, exclusive for Rebuild
//
// Every line is "CRC32C JSON\n", the checksum (eight hexadecimal digits) over
// the JSON. A ledger's first line is its header, the second the whole state at
// the start (a snapshot), each further line one step of the coordinator: a line
// is there whole or not at all, so a step is too. A line is durable
// (fdatasync) before Append returns.
//
// A coordinator that was stopped and continues can only append to its own
// term's file, which its successor has read before. The successor notes in its
// header how far it read (follows); what is there beyond is found again by
// Grown and Read.
//
// What a crash can leave is told apart from damage: a last line without its end
// or with zero bytes was never reported as durable and is dropped; any other
// line whose checksum fails is a *CorruptError.
//
// Trust: the directory is ours alone (0700, files 0600). It is a list of one
// person's guards per activity. Records are opaque here.
package ledger
