delta
set 1 clusters=a@1 endpoints=a@1 listeners=l@1 routes=l@1
ask clusters
  → clusters of 1: a@1
ack clusters
ask endpoints a
  → endpoints of 1: a@1
ack endpoints
ask listeners
  → listeners of 1: l@1
ask routes l
  → routes of 1: l@1
ack listeners
ack routes
  applied 1

# A cluster is refused: the routes that need it are not sent, and what was sent is
# taken back. Of what was refused, nobody knows which part is in force.
set 2 clusters=a@2,b@2 endpoints=a@1,b@2 listeners=l@1 routes=l@2
  → clusters of 2: a@2 b@2
  → endpoints of 2: a@1
nack clusters b: unknown field
  refused 2: b: unknown field
  → clusters of 1: a@1
ack endpoints
  → endpoints of 1: a@1
ack clusters
ack endpoints
  → clusters of 1: -b
ack clusters

# The next snapshot is a new chance.
set 3 clusters=a@1,b@3 endpoints=a@1,b@2 listeners=l@1 routes=l@3
  → clusters of 3: b@3
ask endpoints b
  → endpoints of 3: b@2
ack endpoints
ack clusters
  → routes of 3: l@3
ack routes
  applied 3

# A refusal of what a newer snapshot has replaced already is none.
set 4 clusters=a@1,b@3 endpoints=a@1,b@2 listeners=l@1 routes=l@4
  → routes of 4: l@4
set 5 clusters=a@1,b@3 endpoints=a@1,b@2 listeners=l@1 routes=l@5
nack routes l: no such cluster
  → routes of 5: l@5
ack routes
  applied 5

# What cannot even be taken back: nothing more is sent until the next snapshot.
set 6 clusters=a@6,b@3 endpoints=a@1,b@2 listeners=l@1 routes=l@5
  → clusters of 6: a@6
  → endpoints of 6: a@1
nack clusters a: too old
  refused 6: a: too old
  → clusters of 5: a@1
ack endpoints
  → endpoints of 5: a@1
nack clusters a: too old
ack endpoints
set 7 clusters=a@7,b@3 endpoints=a@1,b@2 listeners=l@1 routes=l@5
  → clusters of 7: a@7
  → endpoints of 7: a@1
ack clusters
ack endpoints
  applied 7
