package mesh_test

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/mesh/meshtest"
)

// TestStringSaysEverything changes every value in random snapshots, one at a
// time: a change that the text does not show is one that recorded tests do not
// see.
func TestStringSaysEverything(t *testing.T) {
	c := changes{T: t, tried: map[string]int{}}
	for seed := range uint64(30) {
		c.s = meshtest.Snapshot(rand.New(rand.NewPCG(seed, 2)), meshtest.All())
		c.text = c.s.String()
		c.change("Snapshot", reflect.ValueOf(c.s).Elem())
	}
}

type changes struct {
	*testing.T
	s     *mesh.Snapshot
	text  string
	tried map[string]int // by field
}

// try changes one value and back. Three changes of a field are enough.
func (t *changes) try(where string, v reflect.Value, mutate func()) {
	if t.tried[where]++; t.tried[where] > 3 {
		return
	}
	old := reflect.New(v.Type()).Elem()
	old.Set(v)
	mutate()
	if t.s.String() == t.text && where != "Certificate.Key" {
		t.Errorf("a change of %s does not show", where)
	}
	v.Set(old)
}

func (t *changes) change(where string, v reflect.Value) {
	try := func(mutate func()) { t.try(where, v, mutate) }
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			t.change(where, v.Elem())
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			try(func() { v.Set(reflect.AppendSlice(v, reflect.ValueOf([]byte("x")))) })
			return
		}
		for i := range v.Len() {
			t.change(where, v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			value := v.MapIndex(key)
			try(func() { v.SetMapIndex(key, reflect.Value{}) })
			v.SetMapIndex(key, value)
			if value.Kind() == reflect.Pointer {
				t.change(where, value)
			}
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[netip.AddrPort]() {
			try(func() { v.Set(reflect.ValueOf(netip.MustParseAddrPort("127.9.9.9:9"))) })
			return
		}
		for i := range v.NumField() {
			if where == "Mirror.Destination" && v.Type().Field(i).Name == "Weight" {
				continue // is not set there
			}
			t.change(v.Type().Name()+"."+v.Type().Field(i).Name, v.Field(i))
		}
	case reflect.String:
		try(func() { v.SetString(v.String() + "x") })
	case reflect.Bool:
		try(func() { v.SetBool(!v.Bool()) })
	case reflect.Int, reflect.Int64:
		try(func() { v.SetInt(v.Int() + 7) })
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		try(func() { v.SetUint(v.Uint() ^ 1) })
	case reflect.Float64:
		try(func() { v.SetFloat(v.Float() + 1) })
	default:
		t.Fatalf("%s: a %s is new here", where, v.Kind())
	}
}

// TestStringKeepsSecrets: what is logged must not hold a private key.
func TestStringKeepsSecrets(t *testing.T) {
	s := meshtest.Snapshot(rand.New(rand.NewPCG(1, 2)), meshtest.All())
	text := s.String()
	for name, c := range s.Certificates {
		for line := range strings.Lines(string(c.Key)) {
			if strings.Contains(text, strings.TrimSpace(line)) {
				t.Errorf("the text has a line of the key of %s", name)
			}
		}
	}
}

func TestRetryConditionsHaveEnvoysNames(t *testing.T) {
	for _, name := range []string{"connect-failure", "5xx", "unavailable", "gateway-error", "reset-before-request"} {
		if on, ok := mesh.ParseRetryOn(name); !ok || on.String() != name {
			t.Errorf("ParseRetryOn(%q) = %v, %t", name, on, ok)
		}
	}
	if _, ok := mesh.ParseRetryOn("retriable-status-codes"); ok {
		t.Error("ParseRetryOn knows a condition that is none")
	}
	if got, want := mesh.DefaultRetry().String(), "2 times on connect-failure,refused-stream,cancelled,unavailable, elsewhere"; got != want {
		t.Errorf("DefaultRetry = %q, want %q", got, want)
	}
}
