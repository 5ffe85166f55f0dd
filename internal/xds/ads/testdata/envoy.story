delta
# An Envoy starts: it asks for listeners when it has clusters and their endpoints.
set 1 clusters=a@1,b@1 endpoints=a@1,b@1 listeners=l@1 routes=l@1
ask clusters
  → clusters of 1: a@1 b@1
ack clusters
ask endpoints a b
  → endpoints of 1: a@1 b@1
ack endpoints
ask listeners
  → listeners of 1: l@1
ask routes l
  → routes of 1: l@1
ack listeners
ack routes
  applied 1

# One more service, and a route to it. The endpoints come with their cluster, since
# an Envoy accepts it only then; the route comes when both are there.
set 2 clusters=a@1,b@1,c@2 endpoints=a@1,b@1,c@2 listeners=l@1 routes=l@2
  → clusters of 2: c@2
ask endpoints c
  → endpoints of 2: c@2
ack endpoints
ack clusters
  → routes of 2: l@2
ack routes
  applied 2

# A service goes: first its route, then the rest.
set 3 clusters=a@1,c@2 endpoints=a@1,c@2 listeners=l@1 routes=l@3
  → routes of 3: l@3
ack routes
  → clusters of 3: -b
leave endpoints b
ack clusters
  applied 3

# A cluster changes and waits for its endpoints again, though those did not.
set 4 clusters=a@4,c@2 endpoints=a@1,c@2 listeners=l@1 routes=l@3
  → clusters of 4: a@4
  → endpoints of 4: a@1
ack endpoints
ack clusters
  applied 4

# Nothing that this proxy sees has changed: it has it already.
set 5 clusters=a@4,c@2 endpoints=a@1,c@2 listeners=l@1 routes=l@3
  applied 5

# Snapshots that come while one is under way: the last one counts.
set 6 clusters=a@4,c@6 endpoints=a@1,c@2 listeners=l@1 routes=l@6
  → clusters of 6: c@6
  → endpoints of 6: c@2
set 7 clusters=a@4,c@6 endpoints=a@1,c@2 listeners=l@1 routes=l@7
set 8 clusters=a@4,c@8 endpoints=a@1,c@2 listeners=l@1 routes=l@8
ack endpoints
ack clusters
  → clusters of 8: c@8
  → endpoints of 8: c@2
ack endpoints
ack clusters
  → routes of 8: l@8
ack routes
  applied 8

# What it asks for and is not there, it is told.
ask secrets missing
  → secrets of 8: -missing
ack secrets
