package telemetry

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"serin.dev/serin/internal/mesh"
)

// ReadBatch hands the records of a batch to a recorder, in their order. The
// bytes may be anything: an error says what is wrong with the first record
// that is none; those before it were handed over. Reading takes no more memory
// than the batch itself and a small constant.
func ReadBatch(batch []byte, to Recorder) error {
	switch {
	case len(batch) == 0:
		return nil
	case len(batch) > MaxBatch:
		return fmt.Errorf("batch of records: has %d bytes, more than %d", len(batch), MaxBatch)
	case batch[0] != batchVersion:
		return fmt.Errorf("batch of records: has version %d, not %d; use the same release of serin on both sides", batch[0], batchVersion)
	}
	r := batchReader{rest: batch[1:], known: []string{""}}
	for n := 0; len(r.rest) > 0; n++ {
		if err := r.next(); err != nil {
			return fmt.Errorf("batch of records: record %d: %w", n, err)
		}
		to.Record(&r.record)
	}
	return nil
}

// batchReader reads one record after the other.
type batchReader struct {
	rest   []byte
	record Request
	start  int64
	known  []string // texts by their numbers
}

var (
	errCut     = errors.New("is cut off")
	errTooLong = fmt.Errorf("has a text of more than %d bytes", MaxText)
)

// next reads a record over the one before, of which it may differ little.
func (b *batchReader) next() error {
	r := &b.record
	changes, err := b.uvarint()
	if err != nil {
		return err
	}
	if changes >= 1<<(numberFields+textFields) {
		return fmt.Errorf("has a field that version %d does not know", batchVersion)
	}
	if r.ID, err = b.id(); err != nil {
		return err
	}
	since, err := b.varint()
	if err != nil {
		return err
	}
	b.start += since
	r.Start = timeOf(b.start)
	if err := b.numbers(changes); err != nil {
		return err
	}
	for i, text := range texts(r) {
		if changes&(1<<(numberFields+i)) == 0 {
			continue
		}
		if *text, err = b.text(); err != nil {
			return err
		}
	}
	return nil
}

func (b *batchReader) numbers(changes uint64) (err error) {
	values := numbers(&b.record)
	for i := range values {
		if changes&(1<<i) == 0 {
			continue
		}
		if values[i], err = b.varint(); err != nil {
			return err
		}
	}
	return setNumbers(&b.record, values)
}

// setNumbers is the inverse of numbers.
func setNumbers(r *Request, values [numberFields]int64) error {
	code, attempts, marks := values[2], values[4], values[6]
	switch {
	case int64(int(code)) != code:
		return fmt.Errorf("code %d is out of range", code)
	case attempts < 0 || attempts > math.MaxUint32:
		return fmt.Errorf("%d attempts are out of range", attempts)
	case marks < 0 || marks>>8 != 0 || marks>>2&3 > int64(GatewaySide) || marks>>4&3 > int64(NoiseCopy):
		return fmt.Errorf("marks %#x are unknown", marks)
	}
	r.Duration, r.Sent, r.Code, r.Read = time.Duration(values[0]), values[1], int(code), values[3]
	r.Attempts, r.Snapshot = uint32(attempts), mesh.SnapshotVersion(values[5])
	r.Reporter, r.Split, r.Probe = Reporter(marks>>2&3), marks&2 != 0, marks&1 != 0
	r.Kind, r.Original.Failed, r.Compared = Kind(marks>>4&3), marks&(1<<6) != 0, marks&(1<<7) != 0
	r.Original.Duration, r.User = time.Duration(values[7]), uint64(values[8])
	return nil
}

func (b *batchReader) uvarint() (uint64, error) {
	v, n := binary.Uvarint(b.rest)
	if n <= 0 {
		return 0, errCut
	}
	b.rest = b.rest[n:]
	return v, nil
}

func (b *batchReader) varint() (int64, error) {
	v, n := binary.Varint(b.rest)
	if n <= 0 {
		return 0, errCut
	}
	b.rest = b.rest[n:]
	return v, nil
}

// bytes returns the next n. They belong to the batch.
func (b *batchReader) bytes(n uint64) ([]byte, error) {
	switch {
	case n > MaxText:
		return nil, errTooLong
	case n > uint64(len(b.rest)):
		return nil, errCut
	}
	out := b.rest[:n]
	b.rest = b.rest[n:]
	return out, nil
}

func (b *batchReader) id() (string, error) {
	v, err := b.uvarint()
	if err != nil {
		return "", err
	}
	if v > 0 {
		id, err := b.bytes(v - 1)
		return string(id), err
	}
	uuid, err := b.bytes(uuidBytes)
	if err != nil {
		return "", err
	}
	var text [uuidText]byte
	return string(appendUUID(text[:0], (*[uuidBytes]byte)(uuid))), nil
}

func (b *batchReader) text() (string, error) {
	v, err := b.uvarint()
	if err != nil {
		return "", err
	}
	if v%2 == 0 {
		if v/2 >= uint64(len(b.known)) {
			return "", fmt.Errorf("text %d is not there", v/2)
		}
		return b.known[v/2], nil
	}
	read, err := b.bytes(v / 2)
	if err != nil {
		return "", err
	}
	text := string(read) // its own memory: a recorder may keep some texts, and not with them the batch
	if len(b.known) < maxTexts {
		b.known = append(b.known, text)
	}
	return text, nil
}

func timeOf(nanoseconds int64) time.Time {
	if nanoseconds == noTime {
		return time.Time{}
	}
	return time.Unix(0, nanoseconds).UTC()
}
