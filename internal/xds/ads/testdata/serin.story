delta
# Our own proxy asks for everything at once; the manifest says when it is whole.
ask clusters *
ask endpoints *
ask secrets *
ask listeners *
ask routes *
ask manifest *
set 1 clusters=a@1 endpoints=a@1 routes=mesh@1
  → clusters of 1: a@1
  → endpoints of 1: a@1
  → secrets of 1:
ack clusters
ack endpoints
ack secrets
  → listeners of 1:
  → routes of 1: mesh@1
ack listeners
ack routes
  → manifest of 1: serin.dev/snapshot@1
ack manifest
  applied 1

# An empty change has a manifest, too.
set 2 clusters=a@1 endpoints=a@1 routes=mesh@1
  → manifest of 2: serin.dev/snapshot@2
ack manifest
  applied 2

# The snapshot cannot be applied as a whole: everything is taken back.
set 3 clusters=b@1 endpoints=b@1 routes=mesh@3
  → clusters of 3: b@1
  → endpoints of 3: b@1
ack clusters
ack endpoints
  → routes of 3: mesh@3
ack routes
  → clusters of 3: -a
ack clusters
  → endpoints of 3: -a
ack endpoints
  → manifest of 3: serin.dev/snapshot@3
nack manifest service b is wrong
  refused 3: service b is wrong
  → clusters of 2: a@1
  → endpoints of 2: a@1
ack clusters
ack endpoints
  → routes of 2: mesh@1
ack routes
  → clusters of 2: -b
ack clusters
  → endpoints of 2: -b
ack endpoints
  → manifest of 2: serin.dev/snapshot@2
ack manifest
