// Package node runs Deployments and Pods as processes of this machine.
//
// It does what the deployment controller, the kubelet and the endpoint slice
// controller do together on a cluster, against any Kubernetes API and with the
// same objects, conditions and events, so that kubectl and Flagger see what
// they expect. Each container is a process in a group of its own; the machine
// is its image. There are no ReplicaSets: pods belong to their Deployment.
//
// Where a process differs from a container:
//
//   - It listens on the port in $PORT, not on its containerPort, because
//     every pod shares the machine's ports. $(PORT) works in command and args.
//   - Its environment starts from PATH, HOME, TMPDIR and LANG alone.
//   - SIGTERM goes to the whole process group, as Ctrl-C in a terminal does,
//     so a shell in between does not swallow it.
//   - A container with a port but no readiness probe is ready once its port
//     accepts a connection: there is no kube-proxy that hides a process which
//     is still starting.
//   - A crashed container restarts after 1 s, doubling up to 5 min, and anew
//     after 10 min of health. (A cluster starts with 10 s.)
//   - Volumes, resource limits and security contexts are not applied; an event
//     on the pod says so.
//
// When Serin stops, pods stay in the API and their processes end. The next
// start marks them not ready before anything else, then runs the same pods
// again with one more restart counted.
//
// The package must never let a process outlive the one that runs it, never
// signal a process it did not start, and never route: what a pod's endpoint
// means is decided by internal/controller and internal/proxy.
//
// Read next: node.go (the parts and how they are wired), pod.go (the life of a
// pod) and rollout.go (which pods a Deployment makes and ends).
package node
