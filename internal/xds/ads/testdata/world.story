world
# The state of the world: clusters and listeners always come as a whole.
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

# One goes and one comes: the old one is left out when nothing leads to it.
set 2 clusters=a@1,c@2 endpoints=a@1,c@2 listeners=l@1 routes=l@2
  → clusters of 2: a@1 b@1 c@2
ack clusters
ask endpoints a b c
  → endpoints of 2: c@2
ack endpoints
  → routes of 2: l@2
ack routes
  → clusters of 2: a@1 c@2
ask endpoints a c
ack clusters
  applied 2
