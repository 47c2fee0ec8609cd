//! An embedded log-structured merge engine with an honest commit log: group commit, recycled segments, crash-tested.
