//! Consistent hashing over fixed partitions, for stores that keep several copies of each key.
#![no_std]

extern crate alloc;

mod claim;
mod codec;
mod error;
mod history;
mod layout;
mod partition;
mod plan;
mod preference;
mod slot;
mod token;
mod topology;

pub use claim::{AutoClaim, Claim, ClaimRequest, FastClaim, FlowClaim, NOBODY, Share};
pub use error::Error;
pub use history::{History, LIVE_LAYOUTS_MAX};
pub use layout::{Layout, MEMBERS_MAX, REPLICAS_MAX};
pub use partition::{Partition, PartitionCount};
pub use plan::{Move, Plan};
pub use preference::PreferenceList;
pub use slot::{SLOTS, Slot, crc16, hash_tag};
pub use token::Token;
pub use topology::{NodeCode, NodeSpec, Topology, Zone};
