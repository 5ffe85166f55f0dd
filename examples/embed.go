// Package examples embeds the manifests of the walkthroughs in this folder, so
// that the demo plays exactly what people read. It holds no code, and its
// manifests must stay what a stock kubectl can apply.
//
// Applying a whole folder, such as music, starts its walkthrough; what is
// released later lies in the folder's own folder versions.
package examples

import "embed"

// Files are the manifests and READMEs, such as music/app.yaml.
//
//go:embed bookinfo music reviews strategies
var Files embed.FS
