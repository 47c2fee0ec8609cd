//! Scaling by traffic: whether there should be more nodes or fewer.

pub mod policy;

pub use policy::Policy;
