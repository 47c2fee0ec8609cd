//! A leaderless, Dynamo-style node: coordinator, replica, peer service and front doors; library and binary.
