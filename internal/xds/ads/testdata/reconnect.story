delta
# A proxy comes back and says what it has: only what differs is sent.
set 9 clusters=a@1,b@2 endpoints=a@1,b@2 listeners=l@1 routes=l@1
has clusters * a@1 b@1 gone@1
  → clusters of 9: b@2
has endpoints a@1 b@1
  → endpoints of 9: b@2
ack clusters
ack endpoints
has listeners * l@1
  → listeners of 9:
has routes l@1
ack listeners
  → clusters of 9: -gone
ack clusters
  applied 9
