// Package notify sends alerts about releases to chat systems: Slack, Microsoft
// Teams, Discord, Rocket.Chat and Google Chat.
//
// A [Config] is Flagger's AlertProvider without Kubernetes, and the messages have
// the shapes that Flagger's have, so channels and their filters stay as they are.
// A message that is not taken is sent again a few times; a chat system that
// answers too late may therefore show it twice.
//
// The address of a webhook is a secret, as is a token: they never get into an
// error. This package does not decide who is told of what, and no release
// waits for it.
//
// Read next: notify.go for the types, payload.go for the messages.
package notify
