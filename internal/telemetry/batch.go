package telemetry

import (
	"encoding/binary"
	"encoding/hex"
	"hash/maphash"
	"math"
	"time"
)

// Limits of a batch. ReadBatch refuses what is beyond.
const (
	// MaxBatch is how many bytes a batch has at most: far more than a sender
	// lets wait and than a reader needs to hold at once.
	MaxBatch = 4 << 20
	// MaxText is how many bytes a text of a record has at most: more than the
	// largest head that a proxy takes, so that none of its requests is cut.
	MaxText = 64 << 10
	// maxTexts is how many texts of a batch have a number. More cost bytes each
	// time they occur: they are paths, of which others follow.
	maxTexts = 1 << 10
)

// batchVersion is the first byte of a batch. Every change of what follows,
// numbers and texts included, makes it another.
const batchVersion = 3

// Batch is a number of records in few bytes: 40 or so for a request like those
// before it. It is for wires and for disks. The zero value is empty and ready
// to use; it is used again after Reset, and then adding allocates nothing.
//
// A batch can be read on its own (ReadBatch). It is made of
//
//	batch   = version record*
//	record  = changes id start number* text*
//	changes = uvarint: a bit for each field that is not what it was in the record
//	          before (of the first: not 0 or empty); the lowest for the first of
//	          numbers, then texts
//	id      = 0 and the 16 bytes of a UUID, or uvarint of 1 + length and the bytes
//	start   = varint: nanoseconds since the start of the record before (of the
//	          first: since 1970)
//	number  = varint, of each that changed
//	text    = uvarint, of each that changed: 2 × number of a text that the batch has
//	          already, or 2 × length + 1 and the bytes, which get the next number
//	          as long as there are any
//
// with varints as package encoding/binary has them; 1 byte of version; and the
// empty text as number 0. It says nothing of its own length or integrity: that
// is for who carries or stores it.
type Batch struct {
	bytes   []byte
	records int

	// The record before.
	start   int64
	numbers [numberFields]int64
	texts   [textFields]span

	// Texts by their numbers, and a hash table of them: 1 + number, 0 = free.
	// It is never more than half full.
	known []span
	slots [2 * maxTexts]uint16
	seed  maphash.Seed
}

// span is a text within Batch.bytes.
type span struct{ from, to uint32 }

// Len is the length of the batch in bytes, 0 without a record.
func (b *Batch) Len() int { return len(b.bytes) }

// Records is how many there are.
func (b *Batch) Records() int { return b.records }

// Bytes is the batch as ReadBatch reads it. It is good until the batch is
// changed.
func (b *Batch) Bytes() []byte { return b.bytes }

// Reset makes the batch empty and keeps its memory.
func (b *Batch) Reset() {
	b.bytes, b.records = b.bytes[:0], 0
	b.start = 0
	clear(b.numbers[:])
	clear(b.texts[:])
	b.known = b.known[:0]
	clear(b.slots[:])
}

// Add appends a record and keeps nothing of it. All of it is read again as it
// was, except for the monotonic part and the zone of Start, a Start before
// 1678 or after 2261 that is not the zero time, and what a text has beyond
// MaxText. The caller sees to it that the batch does not become longer than
// MaxBatch.
func (b *Batch) Add(r *Request) {
	if len(b.bytes) == 0 {
		b.begin()
	}
	numbers, texts := numbers(r), texts(r)
	var changes uint64
	for i, n := range numbers {
		if n != b.numbers[i] {
			changes |= 1 << i
		}
	}
	for i, text := range texts {
		if cut(*text) != string(b.at(b.texts[i])) {
			changes |= 1 << (numberFields + i)
		}
	}
	b.bytes = binary.AppendUvarint(b.bytes, changes)
	b.bytes = appendID(b.bytes, cut(r.ID))
	start := nanoseconds(r.Start)
	b.bytes = binary.AppendVarint(b.bytes, start-b.start) // wraps, as when it is read
	for i, n := range numbers {
		if changes&(1<<i) != 0 {
			b.bytes = binary.AppendVarint(b.bytes, n)
		}
	}
	for i, text := range texts {
		if changes&(1<<(numberFields+i)) != 0 {
			b.texts[i] = b.addText(cut(*text))
		}
	}
	b.start, b.numbers = start, numbers
	b.records++
}

func (b *Batch) begin() {
	b.bytes = append(b.bytes, batchVersion)
	b.known = append(b.known, span{})
	if b.seed == (maphash.Seed{}) {
		b.seed = maphash.MakeSeed()
	}
}

func (b *Batch) at(s span) []byte { return b.bytes[s.from:s.to] }

// addText appends a text, or the number of the same one, and returns where it
// is.
func (b *Batch) addText(text string) span {
	if text == "" {
		b.bytes = append(b.bytes, 0)
		return span{}
	}
	i := maphash.String(b.seed, text) % uint64(len(b.slots))
	for b.slots[i] != 0 {
		number := b.slots[i] - 1
		if at := b.known[number]; string(b.at(at)) == text {
			b.bytes = binary.AppendUvarint(b.bytes, 2*uint64(number))
			return at
		}
		i = (i + 1) % uint64(len(b.slots))
	}
	b.bytes = binary.AppendUvarint(b.bytes, 2*uint64(len(text))+1)
	at := span{from: uint32(len(b.bytes)), to: uint32(len(b.bytes) + len(text))}
	b.bytes = append(b.bytes, text...)
	if len(b.known) < maxTexts {
		b.known = append(b.known, at)
		b.slots[i] = uint16(len(b.known))
	}
	return at
}

func cut(text string) string { return text[:min(len(text), MaxText)] }

// numberFields and textFields are how many fields of either kind a record has
// beside its id and its start.
const (
	numberFields = 9
	textFields   = 24
)

// numbers of a record; those first that change most often. setNumbers is its
// inverse.
func numbers(r *Request) [numberFields]int64 {
	marks := int64(r.Reporter)<<2 | int64(r.Kind)<<4
	if r.Original.Failed {
		marks |= 1 << 6
	}
	if r.Compared {
		marks |= 1 << 7
	}
	if r.Split {
		marks |= 2
	}
	if r.Probe {
		marks |= 1
	}
	return [...]int64{int64(r.Duration), r.Sent, int64(r.Code), r.Read, int64(r.Attempts), int64(r.Snapshot), marks, int64(r.Original.Duration), int64(r.User)}
}

// texts of a record; those first that change most often.
func texts(r *Request) [textFields]*string {
	from, to := &r.Source, &r.Destination
	return [...]*string{
		&r.Path, &r.Upstream, &to.Pod, (*string)(&r.Backend), &r.Method, &r.GRPC, &r.Flags,
		&r.Host, (*string)(&r.Service), &to.Name, &to.Version, &to.Revision, &to.Namespace,
		&r.Route.Name, &r.Route.Namespace, &r.Route.Kind, &r.Protocol,
		&from.Name, &from.Version, &from.Revision, &from.Namespace, &from.Pod,
		&r.Masked, &r.Differs,
	}
}

// noTime stands for the zero time, which no number of nanoseconds is.
const noTime = math.MinInt64

func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return noTime
	}
	return t.UnixNano()
}

// A UUID takes 36 bytes as text. One that is written in any other way than
// appendUUID does is kept as it is.
const (
	uuidBytes = 16
	uuidText  = 36
)

func appendID(dst []byte, id string) []byte {
	if uuid, ok := parseUUID(id); ok {
		return append(append(dst, 0), uuid[:]...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(id))+1)
	return append(dst, id...)
}

// parseUUID reads the text as if it were one, and compares each digit with how
// it is written: without a branch on digits, which nobody can predict.
func parseUUID(text string) (uuid [uuidBytes]byte, ok bool) {
	if len(text) != uuidText {
		return uuid, false
	}
	const digits = "0123456789abcdef"
	wrong := text[8] ^ '-' | text[13] ^ '-' | text[18] ^ '-' | text[23] ^ '-'
	from := 0
	for i := range uuid {
		switch i {
		case 4, 6, 8, 10: // behind a dash
			from++
		}
		high, low := text[from], text[from+1]
		h, l := hexDigit(high), hexDigit(low)
		wrong |= digits[h] ^ high | digits[l] ^ low
		uuid[i] = h<<4 | l
		from += 2
	}
	return uuid, wrong == 0
}

// hexDigit is the value of a digit, and of any other byte some value below 16.
func hexDigit(c byte) byte { return (c + c>>6*9) & 15 }

func appendUUID(dst []byte, uuid *[uuidBytes]byte) []byte {
	dst = append(hex.AppendEncode(dst, uuid[:4]), '-')
	dst = append(hex.AppendEncode(dst, uuid[4:6]), '-')
	dst = append(hex.AppendEncode(dst, uuid[6:8]), '-')
	dst = append(hex.AppendEncode(dst, uuid[8:10]), '-')
	return hex.AppendEncode(dst, uuid[10:])
}
