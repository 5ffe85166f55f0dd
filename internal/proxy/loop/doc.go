// Package loop moves the data plane's bytes: event loops, one per core, on
// which tasks read and write sockets in plain blocking style.
//
// A [Loop] is one goroutine. It asks the kernel which sockets are ready and
// resumes the tasks that wait for them. A [Task] is a coroutine: inside it,
// [Conn.Read] gives the loop away until there is something to read. Switching
// to a task and back costs a tenth of a microsecond, a goroutine woken by the
// runtime's own poller several times that, and the system calls here bypass
// the scheduler. So code reads as with a goroutine per connection and costs
// what an event loop costs.
//
//	g, err := loop.NewGroup(0, loop.Options{})
//	ln, err := g.Listen("127.0.0.1:8080", func(c *loop.Conn) {
//		c.Loop().Go(func(t *loop.Task) {
//			defer c.Close()
//			buf := t.Loop().Buffer()
//			defer t.Loop().Release(buf)
//			for {
//				n, err := c.Read(buf)
//				if err != nil {
//					return
//				}
//				if _, err := c.Write(buf[:n]); err != nil {
//					return
//				}
//			}
//		})
//	})
//	g.Start()
//	...
//	ln.Close()
//	g.Stop(ctx)
//
// # Where code runs
//
// Everything that belongs to a loop (tasks, connections, timers, buffers) is
// used on that loop alone: in its tasks and in the functions it calls. That is
// why nothing here takes a lock on a request's path, and why callers need none
// for what they keep per loop. From other goroutines only these are allowed:
// [Loop.Post], [Loop.Stop], [Loop.Abort], [Loop.Stats], [Listener.Close] and
// the methods of [Group].
//
// A function that the loop calls (given to Post, Start, OnReadable, OnHangup or
// Listen) must not wait; to wait, it starts a task with [Loop.Go].
//
// A task waits only by the methods of this package. If it blocks its goroutine
// (a contended mutex, a channel, a lookup of a name, a file) it blocks
// its loop with all connections; [Task.Offload] is for that. Two traps:
//
//   - A mutex that is held while its task waits here, and wanted by another
//     task of the loop, stops the loop for ever. crypto/tls holds one while it
//     writes, and may want the same one while it reads (a peer can ask for new
//     keys at any time). So where one task reads from a tls.Conn and another
//     writes to it, what is below must not wait in Write: it keeps the
//     bytes, and they are sent after tls has returned.
//   - runtime.Goexit, and so testing.T.FailNow, must not be called in a task.
//
// A panic in a task is a bug and ends the process, with the task's stack.
//
// # Limits
//
// The package knows sockets, time and tasks. It must never know HTTP, a mesh
// or a policy, limit the number of connections (that is for who accepts them),
// or hold a buffer for a connection that is idle.
//
// Read next: loop.go for the turn of the loop, conn.go for how readiness is
// remembered, poller.go for the kernel's side, then internal/proxy.
package loop
