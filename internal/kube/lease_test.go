package kube

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

type tripper func(*http.Request) (*http.Response, error)

func (t tripper) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

func TestNothingIsWrittenWithoutTheLease(t *testing.T) {
	for _, held := range []bool{true, false} {
		for method, writes := range map[string]bool{
			http.MethodGet: false, http.MethodHead: false, http.MethodOptions: false,
			http.MethodPost: true, http.MethodPut: true, http.MethodPatch: true, http.MethodDelete: true,
		} {
			arrived := false
			g := guard{func() bool { return held }, tripper(func(*http.Request) (*http.Response, error) {
				arrived = true
				return &http.Response{StatusCode: http.StatusOK}, nil
			})}
			r, err := http.NewRequest(method, "http://api.test/", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			_, err = g.RoundTrip(r) // without a body
			if passes := held || !writes; arrived != passes || errors.Is(err, ErrNotLeader) == passes {
				t.Errorf("%s with the lease held %t: arrived %t, error %v", method, held, arrived, err)
			}
		}
	}
}

func TestAJournalIsTheSameHoweverItIsWritten(t *testing.T) {
	f := func(now, read string, want bool) {
		t.Helper()
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON([]byte(`{"kind":"Release","status":{` + now + `}}`)); err != nil {
			t.Fatal(err)
		}
		var journal *runtime.RawExtension
		if read != "" {
			journal = &runtime.RawExtension{Raw: []byte(read)}
		}
		if got := sameJournal(o, journal); got != want {
			t.Errorf("%s after %s was read: same %t, want %t", now, read, got, want)
		}
	}
	f(``, ``, true)
	f(`"journal":{}`, ``, false)
	f(``, `{}`, false)
	f(`"journal":{"a":1,"b":0.5}`, `{"b": 0.5, "a": 1}`, true)
	f(`"journal":{"a":1}`, `{"a":2}`, false)
	// Numbers that only differ where a float would not.
	f(`"journal":{"at":1790000000000000001}`, `{"at":1790000000000000001}`, true)
	f(`"journal":{"at":1790000000000000001}`, `{"at":1790000000000000000}`, false)
	f(`"journal":{"a":1}`, `{"a":`, false)
}
