package http2

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	"serin.dev/serin/internal/proxy/wire"
)

// decoded reads a block as any peer would.
func decoded(t *testing.T, block []byte) (fields []hpack.HeaderField) {
	t.Helper()
	d := hpack.NewDecoder(defaultTable, func(f hpack.HeaderField) { fields = append(fields, f) })
	if _, err := d.Write(block); err != nil {
		t.Fatalf("%x: %v", block, err)
	}
	if err := d.Close(); err != nil {
		t.Fatalf("%x: %v", block, err)
	}
	return fields
}

// TestEveryEntryOfTheStaticTableIsFound: the decoder of another author has the
// same table.
func TestEveryEntryOfTheStaticTableIsFound(t *testing.T) {
	for index := 1; index <= 61; index++ {
		entry := decoded(t, []byte{0x80 | byte(index)})[0]
		first := staticName(entry.Name)
		if first == 0 || first > index {
			t.Errorf("%s is entry %d, want %d or one before with the same name", entry.Name, first, index)
			continue
		}
		var e encoder
		e.put(entry.Name, entry.Value)
		e.put(entry.Name, "another value")
		got := decoded(t, e.out)
		if len(got) != 2 || got[0].Name != entry.Name || got[0].Value != entry.Value || got[1].Name != entry.Name || got[1].Value != "another value" {
			t.Errorf("%s: %q comes back as %v", entry.Name, entry.Value, got)
		}
	}
}

// FuzzPut: whatever is written comes back.
func FuzzPut(f *testing.F) {
	f.Add("x-color", "yellow")
	f.Add(":status", "404")
	f.Add("date", strings.Repeat("\x00\xff", 5000))
	f.Add("", "")
	f.Fuzz(func(t *testing.T, name, value string) {
		var e encoder
		e.put(name, value)
		if got := decoded(t, e.out); len(got) != 1 || got[0].Name != name || got[0].Value != value {
			t.Fatalf("%q: %q comes back as %v", name, value, got)
		}
	})
}

// TestLongNumbers are those behind which a byte is not enough.
func TestLongNumbers(t *testing.T) {
	for _, n := range []int{0, 126, 127, 128, 254, 255, 16_510, 16_511, 70_000} {
		var e encoder
		value := strings.Repeat("x", n)
		e.put("x", value)
		if got := decoded(t, e.out); len(got) != 1 || got[0].Value != value {
			t.Errorf("%d bytes come back as %v", n, got)
		}
	}
}

// BenchmarkAnswer encodes the head of a common answer.
func BenchmarkAnswer(b *testing.B) {
	h := wire.Head{Status: 200, Body: wire.Sized, Length: 512}
	h.Add("content-type", "text/plain")
	h.Add("server", "app")
	h.Add("date", "Sat, 21 Nov 2026 08:00:00 GMT")
	h.Add("x-request-id", fmt.Sprintf("%036d", 7))
	e := newEncoder()
	b.ReportAllocs()
	for b.Loop() {
		e.answer(&h, false)
	}
}
