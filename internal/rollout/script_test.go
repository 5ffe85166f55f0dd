package rollout

import (
	"strings"
	"testing"

	"serin.dev/serin/test/story"
)

// TestScripts plays the stories in testdata, see story.Commands. The commands
// are the methods of player.
func TestScripts(t *testing.T) {
	story.Each(t, "testdata/*.txt", func(t *testing.T, told string) string {
		p := newPlayer(t)
		return story.Commands(told, func(out *strings.Builder, words []string) { p.do(out, words) })
	})
}
