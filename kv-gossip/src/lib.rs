//! SWIM membership with Lifeguard, versioned facts under a byte budget, no sockets and no clock.
#![no_std]

extern crate alloc;
