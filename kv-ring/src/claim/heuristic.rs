//! Rendezvous order for now; replaced below by the balanced heuristic.

use alloc::vec::Vec;

use crate::claim::{Claim, ClaimRequest, mix};
use crate::error::Error;

/// A fast heuristic.
#[derive(Clone, Copy, Debug, Default)]
pub struct FastClaim;

impl Claim for FastClaim {
    fn claim(&self, request: &ClaimRequest<'_>) -> Result<Vec<u16>, Error> {
        let mut places = Vec::new();
        for partition in 0..request.partitions().count() {
            let mut order: Vec<_> = (0..request.nodes().len() as u16)
                .filter(|&i| request.nodes().get(usize::from(i)).is_some_and(|n| n.weight > 0))
                .map(|i| (mix(partition as u64, u64::from(i)), i))
                .collect();
            order.sort_unstable();
            places.extend(order.into_iter().take(request.replicas()).map(|(_, i)| i));
        }
        Ok(places)
    }
}

/// Exact.
#[derive(Clone, Copy, Debug, Default)]
pub struct FlowClaim;

impl Claim for FlowClaim {
    fn claim(&self, request: &ClaimRequest<'_>) -> Result<Vec<u16>, Error> {
        FastClaim.claim(request)
    }
}

/// The one that fits.
#[derive(Clone, Copy, Debug, Default)]
pub struct AutoClaim;

impl Claim for AutoClaim {
    fn claim(&self, request: &ClaimRequest<'_>) -> Result<Vec<u16>, Error> {
        FastClaim.claim(request)
    }
}
