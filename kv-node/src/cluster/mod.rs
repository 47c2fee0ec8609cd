//! The cluster as this node knows it: its record, its layouts, its members.

pub mod birth;
pub mod campaign;
pub mod changes;
pub mod commit;
pub mod confirm;
pub mod decree;
pub mod dots;
pub mod floors;
pub mod heard;
pub mod membership;
pub mod meta;
mod minting;
pub mod record;
pub mod state;
pub mod steps;
pub mod transfers;
pub mod view;
pub mod vitals;
pub mod wire;
