package ads

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/xds"
	"serin.dev/serin/test/story"
)

// TestSessionStories plays what a proxy says and a server is given, and records
// what the session sends. A story begins with its protocol, delta or world:
//
//	set VERSION TYPE=NAME@V,... ...   a new snapshot
//	ask TYPE NAME...                  a subscription; in the state of the world, all names
//	leave TYPE NAME...                the end of a subscription (delta)
//	has TYPE [*] NAME@V...            the first subscription of one who has something (delta)
//	ack TYPE                          the response under way was taken
//	nack TYPE REASON                  it was not
func TestSessionStories(t *testing.T) {
	story.Each(t, "testdata/*.story", play)
}

// play repeats the commands of a story with what they lead to. Lines that begin
// with "#" are kept; those that begin with a space are output.
func play(t *testing.T, story string) string {
	var out strings.Builder
	var s *session
	for _, line := range strings.Split(strings.TrimRight(story, "\n"), "\n") {
		if strings.HasPrefix(line, " ") {
			continue
		}
		fmt.Fprintln(&out, line)
		if line == "" || line[0] == '#' {
			continue
		}
		word := strings.Fields(line)
		if s == nil {
			s = newSession(word[0] == "delta")
			continue
		}
		before := s.refused
		obey(t, s, word)
		if s.refused != nil && s.refused != before {
			fmt.Fprintf(&out, "  refused %d: %s\n", s.refused.version, s.refused.reason)
		}
		for r := s.next(); r != nil; r = s.next() {
			fmt.Fprintf(&out, "  → %s of %d:", typeName(r.channel), r.version)
			for _, one := range r.send {
				fmt.Fprintf(&out, " %s@%s", one.name, one.Version)
			}
			for _, name := range r.remove {
				fmt.Fprintf(&out, " -%s", name)
			}
			fmt.Fprintln(&out)
		}
		if s.applied() {
			fmt.Fprintf(&out, "  applied %d\n", s.good.Version)
		}
	}
	return out.String()
}

func obey(t *testing.T, s *session, word []string) {
	if word[0] == "set" {
		s.set(snapshotOf(t, word[1:]))
		return
	}
	r := request{channel: typeOf(t, word[1])}
	switch word[0] {
	case "ask":
		r.subscribe = word[2:]
		if !s.delta {
			r.nonce = s.subs[r.channel].nonce
		}
	case "leave":
		r.unsubscribe = word[2:]
	case "has":
		r.versions = map[string]string{}
		for _, one := range word[2:] {
			name, version, known := strings.Cut(one, "@")
			if known {
				r.versions[name] = version
			}
			if !known || word[2] != "*" {
				r.subscribe = append(r.subscribe, name)
			}
		}
	case "ack", "nack":
		r.nonce = s.subs[r.channel].nonce
		if word[0] == "nack" {
			r.refusal = strings.Join(word[2:], " ")
		}
		if !s.delta {
			for name := range s.subs[r.channel].names {
				r.subscribe = append(r.subscribe, name)
			}
		}
	default:
		t.Fatalf("unknown command %v", word)
	}
	s.take(r)
}

func snapshotOf(t *testing.T, word []string) *xds.Resources {
	version, err := strconv.ParseUint(word[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	r := &xds.Resources{Version: mesh.SnapshotVersion(version)}
	for _, part := range word[1:] {
		kind, names, _ := strings.Cut(part, "=")
		of := xds.Type(typeOf(t, kind))
		r.ByType[of] = map[string]xds.Resource{}
		for _, one := range strings.Split(names, ",") {
			name, v, _ := strings.Cut(one, "@")
			r.ByType[of][name] = xds.Resource{Version: v, Body: &anypb.Any{}}
		}
	}
	return r
}

func typeName(c channel) string {
	if c == manifest {
		return "manifest"
	}
	return xds.Type(c).String()
}

func typeOf(t *testing.T, name string) channel {
	for c := range channels {
		if typeName(c) == name {
			return c
		}
	}
	t.Fatalf("unknown type %q", name)
	return 0
}
