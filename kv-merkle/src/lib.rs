//! Fixed-shape hash trees and a level-by-level exchange that finds exactly the differing leaves.
#![no_std]

extern crate alloc;
