package telemetry

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"serin.dev/serin/internal/mesh"
)

// kept keeps what it is given.
type kept []Request

func (k *kept) Record(r *Request) { *k = append(*k, *r) }

func batchOf(records ...Request) *Batch {
	var b Batch
	for i := range records {
		b.Add(&records[i])
	}
	return &b
}

// again reads a batch.
func again(t *testing.T, b *Batch) []Request {
	t.Helper()
	var got kept
	if err := ReadBatch(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	return got
}

// usual is a request as a gateway carries it, the i-th of many.
func usual(i int) Request {
	pod := i % 3
	return Request{
		ID: fmt.Sprintf("6ecfafd0-8a35-4af6-a9e2-%012x", i), Start: t0.Add(time.Duration(i) * 40 * time.Microsecond), Duration: 300 * time.Microsecond,
		Protocol: "HTTP/1.1", Reporter: GatewaySide, Service: "music.default", Backend: "music-stable.default", Split: true,
		Destination: mesh.Workload{Namespace: "default", Name: "music", Version: "v1", Revision: "6d4cf56db6", Pod: fmt.Sprintf("music-6d4cf56db6-%d", pod)},
		Upstream:    fmt.Sprintf("127.0.0.%d:9080", pod+1), Attempts: 1, Snapshot: 17,
		Route:  mesh.Origin{Kind: "VirtualService", Namespace: "default", Name: "music"},
		Method: "GET", Host: "music.example.com", Path: "/api/v1/music", Code: 200, Sent: 512,
	}
}

// TestRandomRecordsAreReadAsTheyWere fills every field that a record has, by
// reflection: one that is added and not encoded is found here.
func TestRandomRecordsAreReadAsTheyWere(t *testing.T) {
	var b Batch
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		records := make([]Request, random.IntN(300))
		for i := range records {
			if i > 0 {
				records[i] = records[i-1] // as they come: much stays the same
			}
			vary(random, reflect.ValueOf(&records[i]).Elem())
		}
		b.Reset()
		for i := range records {
			b.Add(&records[i])
		}
		if b.Records() != len(records) || (b.Len() == 0) != (len(records) == 0) {
			t.Fatalf("seed %d: has %d records and %d bytes, of %d records", seed, b.Records(), b.Len(), len(records))
		}
		if diff := cmp.Diff(records, again(t, &b), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("seed %d (-added +read):\n%s", seed, diff)
		}
	}
}

// vary changes some of a value's fields.
func vary(random *rand.Rand, v reflect.Value) {
	if at, ok := v.Addr().Interface().(*time.Time); ok {
		*at = []time.Time{{}, time.Unix(0, 0).UTC(), t0, time.Unix(0, math.MaxInt64).UTC(), t0.Add(time.Duration(random.Int64N(1e12)))}[random.IntN(5)]
		return
	}
	if v.Kind() == reflect.Struct {
		for i := range v.NumField() {
			if random.IntN(2) == 0 {
				vary(random, v.Field(i))
			}
		}
		return
	}
	number := random.Int64() >> random.IntN(64)
	switch {
	case v.Type() == reflect.TypeFor[Reporter]():
		v.SetUint(random.Uint64N(uint64(GatewaySide) + 1))
	case v.Type() == reflect.TypeFor[Kind]():
		v.SetUint(random.Uint64N(uint64(NoiseCopy) + 1))
	case v.Kind() == reflect.String:
		v.SetString(randomText(random))
	case v.Kind() == reflect.Bool:
		v.SetBool(random.IntN(2) == 0)
	case v.CanInt():
		v.SetInt([]int64{number, -number, math.MinInt64, math.MaxInt64, 0, 200}[random.IntN(6)])
	case v.CanUint():
		v.SetUint(uint64(random.Uint64()) >> random.IntN(64) & (1<<v.Type().Bits() - 1))
	default:
		panic("a record has a field of a kind that this test does not know: " + v.Type().String())
	}
}

func randomText(random *rand.Rand) string {
	switch random.IntN(5) {
	case 0:
		return ""
	case 1: // many have one of a few
		return fmt.Sprint("text", random.IntN(10))
	case 2:
		return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", random.Uint32(), random.IntN(1<<16), random.IntN(1<<16), random.IntN(1<<16), random.Int64N(1<<48))
	case 3:
		return "6ECFAFD0-8A35-4AF6-A9E2-CBD79B3ABEEA" // must not become lower case
	}
	b := make([]byte, random.IntN(50))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return string(b)
}

func TestMoreTextsThanHaveNumbersAreReadAsTheyWere(t *testing.T) {
	var records []Request
	for i := range 3 * maxTexts {
		records = append(records, Request{Start: t0, Path: fmt.Sprint("/", i), Host: fmt.Sprint("host", i%7)})
	}
	records = append(records, records...)
	if diff := cmp.Diff(records, again(t, batchOf(records...))); diff != "" {
		t.Errorf("-added +read:\n%s", diff)
	}
}

func TestWhatABatchCannotHoldIsCut(t *testing.T) {
	long := strings.Repeat("x", MaxText)
	here := time.FixedZone("", 3600)
	got := again(t, batchOf(Request{ID: long + "y", Path: long + "z", Start: t0.In(here)}, Request{Path: long}))
	want := []Request{{ID: long, Path: long, Start: t0}, {Path: long}}
	if diff := cmp.Diff(want, got); diff != "" || got[0].Start.Location() != time.UTC {
		t.Errorf("start %v, or -want +got:\n%s", got[0].Start, diff)
	}
}

func TestABatchKeepsNothingOfARecord(t *testing.T) {
	path := []byte("/a")
	var b Batch
	for range 2 {
		b.Add(&Request{Path: unsafe.String(&path[0], len(path))})
		copy(path, "/b")
	}
	if got := again(t, &b); got[0].Path != "/a" || got[1].Path != "/b" {
		t.Errorf("read %q and %q, want /a and /b", got[0].Path, got[1].Path)
	}
}

func TestUsualRecordsTakeFewBytes(t *testing.T) {
	var b Batch
	for i := range 500 {
		r := usual(i)
		b.Add(&r)
	}
	if each := float64(b.Len()) / 500; each > 36 {
		t.Errorf("a record takes %.1f bytes, want 36 at most", each)
	}
}

func TestAddingAllocatesNothing(t *testing.T) {
	var b Batch
	records := make([]Request, 100)
	for i := range records {
		records[i] = usual(i)
		records[i].Path += fmt.Sprint(i)
	}
	fill := func() {
		b.Reset()
		for i := range records {
			b.Add(&records[i])
		}
	}
	fill()
	if n := testing.AllocsPerRun(100, fill); n != 0 {
		t.Errorf("a batch of 100 records allocates %v times, want 0", n)
	}
}

func TestBytesThatAreNoBatchAreRefused(t *testing.T) {
	r := usual(0)
	whole := batchOf(r, r).Bytes()
	f := func(bytes []byte, want string) {
		t.Helper()
		if err := ReadBatch(bytes, &kept{}); err == nil || err.Error() != "batch of records: "+want {
			t.Errorf("ReadBatch(%.40x) = %v, want %s", bytes, err, want)
		}
	}
	f([]byte{1}, "has version 1, not 3; use the same release of serin on both sides")
	f(make([]byte, MaxBatch+1), "has 4194305 bytes, more than 4194304")
	f(whole[:len(whole)-1], "record 1: is cut off")
	f([]byte{batchVersion, 0, 0, 1}, "record 0: is cut off") // within the UUID
	f([]byte{batchVersion, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, "record 0: is cut off")
	f(binary.AppendUvarint([]byte{batchVersion}, 1<<(numberFields+textFields)), "record 0: has a field that version 3 does not know")
	f(binary.AppendUvarint([]byte{batchVersion, 0}, 1<<60), "record 0: has a text of more than 65536 bytes")
	f(number(4, -1), "record 0: -1 attempts are out of range")
	f(number(4, 1<<32), "record 0: 4294967296 attempts are out of range")
	f(number(6, int64(GatewaySide+1)<<2), "record 0: marks 0xc are unknown")
	f(number(6, int64(NoiseCopy+1)<<4), "record 0: marks 0x30 are unknown")
	f(number(6, 1<<8), "record 0: marks 0x100 are unknown")
	f(text(binary.AppendUvarint(nil, 2)), "record 0: text 1 is not there")
	f(text(binary.AppendUvarint(nil, 2<<60+1)), "record 0: has a text of more than 65536 bytes")
	f(text(binary.AppendUvarint(nil, 2*MaxText+1)), "record 0: is cut off")
}

// number makes a batch of one record with a number, and text with a text.
func number(field int, value int64) []byte {
	return binary.AppendVarint(append(binary.AppendUvarint([]byte{batchVersion}, 1<<field), 1, 0), value)
}

func text(encoded []byte) []byte {
	return append(append(binary.AppendUvarint([]byte{batchVersion}, 1<<numberFields), 1, 0), encoded...)
}

func FuzzReadBatch(f *testing.F) {
	r := usual(1)
	f.Add(batchOf(r, usual(2), Request{Protocol: TCP}).Bytes())
	f.Add(text([]byte{5, 'a', 'b'}))
	f.Fuzz(func(t *testing.T, bytes []byte) {
		var got kept
		if err := ReadBatch(bytes, &got); err != nil {
			return
		}
		if diff := cmp.Diff([]Request(got), again(t, batchOf(got...))); diff != "" {
			t.Errorf("what was read is not read again (-first +again):\n%s", diff)
		}
	})
}

func BenchmarkBatchAdd(b *testing.B) {
	run := func(name string, edit func(i int, r *Request)) {
		b.Run(name, func(b *testing.B) {
			records := make([]Request, 500)
			for i := range records {
				records[i] = usual(i)
				edit(i, &records[i])
			}
			var batch Batch
			b.ReportAllocs()
			for i := 0; b.Loop(); i = (i + 1) % len(records) {
				if i == 0 {
					batch.Reset()
				}
				batch.Add(&records[i])
			}
		})
	}
	run("same", func(_ int, r *Request) { r.Upstream, r.Destination = "127.0.0.1:9080", mesh.Workload{} })
	run("pods", func(int, *Request) {})
	run("paths", func(i int, r *Request) { r.Path += fmt.Sprint("/", i) })
}

// nobody has no use for records.
type nobody struct{}

func (nobody) Record(*Request) {}

func BenchmarkReadBatch(b *testing.B) {
	const records = 500
	var batch Batch
	for i := range records {
		r := usual(i)
		batch.Add(&r)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := ReadBatch(batch.Bytes(), nobody{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
}
