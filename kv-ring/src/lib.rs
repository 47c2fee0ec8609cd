//! Consistent hashing over fixed partitions, for stores that keep several copies of each key.
//!
//! ```text
//!   key --CRC16 of the hash tag--> slot (16384, as Redis Cluster)
//!    |                               |  high bits
//!    +--XXH3-64--> token             +--> partition (1024) --layout--> [n3, n7, n1] then fallbacks
//!        (order inside a slot)
//! ```
//!
//! Keys fall into slots by the Redis Cluster rule, neighbouring slots make a partition, and a
//! [`Layout`] lists for each partition the nodes that hold it, in order. Partitions are fixed and
//! nodes come and go: strategy 3 of section 6.2 of the Dynamo paper, whose preference lists (4.2,
//! 4.6) these are. Layouts are values with an epoch and a digest; [`History`] keeps those that are
//! live while data moves, and says in which sets an operation needs its quorums.
//!
//! Placement is exact. Every node holds the floor or the ceiling of its feasible share (weights
//! under the caps of nodes and zones), of copies and of first places; copies are in different zones
//! whenever zones allow; and no placement that keeps to this moves fewer copies than
//! [`FlowClaim`] does.
//!
//! **It is not** a store, a transport or a way to agree on a layout: it computes, and all that it
//! computes is a function of its arguments. No clock, no randomness, no input or output, no `std`.
//!
//! ```
//! use kv_ring::{AutoClaim, Layout, NodeSpec, PartitionCount, Plan, Slot, Topology, Zone};
//!
//! # fn main() -> Result<(), kv_ring::Error> {
//! let spec = |zone| NodeSpec::new(1, Zone::named(zone));
//! let mut nodes: Topology<u64> =
//!     [(1, spec("a")), (2, spec("b")), (3, spec("c"))].into_iter().collect();
//! let layout = Layout::first(&nodes, PartitionCount::DEFAULT, 3, &AutoClaim)?;
//!
//! let slot = Slot::of(b"{user1000}.following");
//! assert_eq!(slot, Slot::of(b"{user1000}.followers"));
//! assert_eq!(layout.owners_of(slot).len(), 3);
//!
//! nodes.insert(4, spec("a"));
//! let next = Layout::next(&layout, &nodes, 3, &AutoClaim)?;
//! let plan = Plan::between(&layout, &next)?;
//! // Node 4 takes half of what node 1 held; nothing else moves.
//! assert_eq!(plan.moves().len(), 512);
//! # Ok(()) }
//! ```
//!
//! Features: `serde` (off by default) derives `Serialize` and `Deserialize` for the small types,
//! checked when read. A layout travels as the bytes of [`Layout::encode`].
#![no_std]

extern crate alloc;

mod claim;
mod codec;
mod error;
mod exchange;
mod history;
mod layout;
mod partition;
mod plan;
mod preference;
mod slot;
mod steps;
mod token;
mod topology;

pub use claim::{AutoClaim, Claim, ClaimRequest, FastClaim, FlowClaim, NOBODY, Share};
pub use error::Error;
pub use exchange::Exchange;
pub use history::{History, LIVE_LAYOUTS_MAX};
pub use layout::{Layout, MEMBERS_MAX, REPLICAS_MAX};
pub use partition::{Partition, PartitionCount};
pub use plan::{Move, Plan};
pub use preference::PreferenceList;
pub use slot::{SLOTS, Slot, crc16, hash_tag};
pub use token::Token;
pub use topology::{NodeCode, NodeSpec, Topology, Zone};
