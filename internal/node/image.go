package node

import (
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// ImageMapping says which command of this machine an image stands for.
type ImageMapping struct {
	// Image is a pattern as of path.Match for the image without its tag, such
	// as "example.org/shop/*"; with a colon, for the image and its tag. A
	// pattern without a slash is for the last part of the image's path,
	// whichever registry it comes from.
	Image string
	// Command is what the image would run. In each part {image} stands for
	// the whole image, {name} for the last part of its path and {tag} for its
	// tag ("latest" when it has none). A container's own command replaces it,
	// its args are appended.
	Command []string
	// Env are variables that the image would set, with the same placeholders.
	Env map[string]string
}

// Matches reports whether the image is one of the mapping's.
func (m ImageMapping) Matches(image string) bool {
	repository, tag := splitImage(image)
	whole := repository
	if !strings.Contains(m.Image, "/") {
		whole = path.Base(repository)
	}
	if strings.Contains(m.Image, ":") {
		whole += ":" + tag
	}
	// A bad pattern matches nothing; Config's validation refuses it.
	ok, _ := path.Match(m.Image, whole)
	return ok
}

// fill replaces the placeholders.
func (m ImageMapping) fill(s, image string) string {
	repository, tag := splitImage(image)
	return strings.NewReplacer("{image}", image, "{name}", path.Base(repository), "{tag}", tag).Replace(s)
}

// splitImage cuts off digest and tag.
func splitImage(image string) (repository, tag string) {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		return image[:i], image[i+1:]
	}
	return image, "latest"
}

// resolve returns what the container runs, before expansion, and the variables
// of its image. No command means that there is none to run.
func resolve(mappings []ImageMapping, c *corev1.Container) (command []string, env map[string]string) {
	var mapped []string
	for _, m := range mappings {
		if !m.Matches(c.Image) {
			continue
		}
		for _, part := range m.Command {
			mapped = append(mapped, m.fill(part, c.Image))
		}
		env = map[string]string{}
		for k, v := range m.Env {
			env[k] = m.fill(v, c.Image)
		}
		break
	}
	if len(c.Command) > 0 {
		mapped = c.Command
	}
	if len(mapped) == 0 {
		return nil, env
	}
	return append(append([]string(nil), mapped...), c.Args...), env
}
