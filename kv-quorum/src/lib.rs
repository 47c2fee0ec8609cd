//! Dotted version vectors, causal contexts, N/R/W plans and quorum trackers: the pure heart of a Dynamo-style store.
#![no_std]

extern crate alloc;
