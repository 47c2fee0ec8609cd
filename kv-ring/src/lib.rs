//! Consistent hashing over fixed partitions: Redis Cluster slots, tokens, zoned and weighted placement, preference lists, layouts with epochs.
#![no_std]

extern crate alloc;
