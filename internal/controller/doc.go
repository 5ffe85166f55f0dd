// Package controller holds the loops that act.
//
// Publish turns the API's objects into snapshots and hands them to the
// proxies; its acks say what is in effect. Deliver turns requests into
// decisions and writes them back as objects. Canaries gives each Flagger
// Canary a Release that does its work. The two halves of the main loop know
// nothing of each other but objects and acks: what one writes, the other finds
// in the API.
//
// What a release asks of others is asked beside the loop, and answered by its
// next look: hooks.go calls webhooks, measure.go metric providers, alerts.go chat
// systems. Nothing of it holds a look up.
//
// Experiments are looked at in the same pass, before the releases (experiments.go):
// while one has a target, the target's Release is left as it is.
//
// The loops hold no rules of their own: what follows from samples is decided
// by packages analysis and rollout.
//
// Read next: publish.go, then deliver.go.
package controller
