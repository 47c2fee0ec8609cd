//! The feasible share: how much each node should hold, before anything is rounded.
//!
//! Weighted max-min fairness by water-filling (Bertsekas and Gallager, section 6.5.2) on two
//! levels. A level rises; a node takes its weight times the level until it holds every partition
//! once, a zone until it holds its part. A zone's part of one partition is even: the smallest
//! `k` for which `k` copies in each zone (or all its nodes, if fewer) make N is its most, and one
//! less its least; with as many zones as copies that is 1 and 0. All arithmetic is on exact
//! fractions, so the floor and the ceiling are the same on every machine. Invariant: shares add up
//! to partitions times N, and a placement exists in which every node holds its floor or its
//! ceiling: the shares themselves are a fractional one, and flows with whole bounds have whole
//! solutions.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::error::Error;
use crate::layout::check_size;
use crate::partition::PartitionCount;
use crate::topology::{NodeSpec, Topology, Zone};

/// A share of the copies (or of any count): an exact fraction.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    numerator: u128,
    denominator: u128,
}

impl Share {
    const ZERO: Self = Self::new(0, 1);

    const fn new(numerator: u128, denominator: u128) -> Self {
        Self { numerator, denominator }
    }

    /// The fewest copies that a node with this share holds.
    pub const fn floor(self) -> usize {
        (self.numerator / self.denominator) as usize
    }

    /// The most copies that a node with this share holds.
    pub const fn ceil(self) -> usize {
        self.numerator.div_ceil(self.denominator) as usize
    }

    /// The fraction, as numerator and denominator.
    pub const fn fraction(self) -> (u128, u128) {
        (self.numerator, self.denominator)
    }

    /// This share, evenly cut: the share of first places is that of copies cut in N.
    #[must_use]
    pub const fn over(self, parts: usize) -> Self {
        Self::new(self.numerator, self.denominator * parts as u128)
    }

    /// What is above the floor, in parts of 2^32.
    pub(crate) const fn excess(self) -> u64 {
        (((self.numerator % self.denominator) << 32) / self.denominator) as u64
    }
}

impl Ord for Share {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.numerator * other.denominator).cmp(&(other.numerator * self.denominator))
    }
}

impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Share {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Share {}

impl<N: Ord + Copy> Topology<N> {
    /// The feasible share of each member, in order of identity: how many of the copies of all
    /// partitions it should hold. O(members²) at worst.
    ///
    /// # Errors
    /// [`Error::Replicas`], [`Error::TooFewNodes`], [`Error::TooManyNodes`].
    pub fn shares(
        &self,
        partitions: PartitionCount,
        replicas: usize,
    ) -> Result<Vec<(N, Share)>, Error> {
        let (nodes, specs): (Vec<N>, Vec<NodeSpec>) = self.iter().unzip();
        check_size(&specs, replicas)?;
        let shares = Rules::new(&specs, partitions.count(), replicas).shares;
        Ok(nodes.into_iter().zip(shares).collect())
    }
}

/// One zone's part.
#[derive(Clone, Debug)]
pub(crate) struct ZoneRule {
    /// Nodes with weight, as indexes.
    pub(crate) members: Vec<usize>,
    /// Copies of each partition that it must hold.
    pub(crate) at_least: usize,
    /// Copies of each partition that it may hold.
    pub(crate) at_most: usize,
    /// Its share of all copies.
    pub(crate) share: Share,
}

/// What every placement of a request keeps to.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) zones: Vec<ZoneRule>,
    /// The zone of each node; `None` for one without weight.
    pub(crate) zone_of: Vec<Option<usize>>,
    /// The share of each node.
    pub(crate) shares: Vec<Share>,
}

impl Rules {
    /// The rules for `replicas` copies of each partition; at least as many nodes have weight.
    pub(crate) fn new(specs: &[NodeSpec], partitions: usize, replicas: usize) -> Self {
        let mut by_zone: BTreeMap<Zone, Vec<usize>> = BTreeMap::new();
        for (index, spec) in specs.iter().enumerate().filter(|(_, spec)| spec.weight > 0) {
            by_zone.entry(spec.zone).or_default().push(index);
        }
        let held = |k: usize| by_zone.values().map(|nodes| nodes.len().min(k)).sum::<usize>();
        let even = (1..=replicas).find(|&k| held(k) >= replicas).unwrap_or(replicas);
        let mut zone_of = alloc::vec![None; specs.len()];
        let mut zones = Vec::with_capacity(by_zone.len());
        for (number, members) in by_zone.into_values().enumerate() {
            for &member in &members {
                if let Some(zone) = zone_of.get_mut(member) {
                    *zone = Some(number);
                }
            }
            let (at_least, at_most) = (members.len().min(even - 1), members.len().min(even));
            zones.push(ZoneRule { members, at_least, at_most, share: Share::ZERO });
        }
        let mut water = Water { specs, whole: partitions as u128, zones: &mut zones };
        let shares = water.fill((partitions * replicas) as u128);
        Self { zones, zone_of, shares }
    }
}

struct Water<'a> {
    specs: &'a [NodeSpec],
    /// All partitions once: the most that one node holds.
    whole: u128,
    zones: &'a mut [ZoneRule],
}

impl Water<'_> {
    fn fill(&mut self, total: u128) -> Vec<Share> {
        let level = self.level(total);
        let mut shares = alloc::vec![Share::ZERO; self.specs.len()];
        for number in 0..self.zones.len() {
            let Some(zone) = self.zones.get(number) else { continue };
            let (held, floor, cap) = self.zone_at(zone, level);
            let share = if held < floor {
                floor
            } else if held > cap {
                cap
            } else {
                held
            };
            let own = match share.denominator {
                1 => self.level_in(zone, share.numerator),
                _ => level,
            };
            for &member in &zone.members {
                if let Some(slot) = shares.get_mut(member) {
                    *slot = self.node_at(member, own);
                }
            }
            if let Some(zone) = self.zones.get_mut(number) {
                zone.share = share;
            }
        }
        shares
    }

    /// The level at which all zones, each between its least and its most, hold `total`.
    fn level(&self, total: u128) -> Share {
        let mut bends = alloc::vec![Share::ZERO];
        for zone in self.zones.iter() {
            bends.extend(zone.members.iter().map(|&m| Share::new(self.whole, self.weight(m))));
            bends.push(self.level_in(zone, zone.at_least as u128 * self.whole));
            bends.push(self.level_in(zone, zone.at_most as u128 * self.whole));
        }
        bends.sort_unstable();
        let below = bends.partition_point(|&bend| self.held(bend) <= Share::new(total, 1));
        let base = bends.get(below.saturating_sub(1)).copied().unwrap_or(Share::ZERO);
        // From the last bend that does not hold too much, what is held rises in a straight line.
        let (mut fixed, mut slope) = (0, 0);
        for zone in self.zones.iter() {
            let (held, floor, cap) = self.zone_at(zone, base);
            if held < floor {
                fixed += floor.numerator;
            } else if held >= cap {
                fixed += cap.numerator;
            } else {
                for &member in &zone.members {
                    if self.is_full(member, base) {
                        fixed += self.whole;
                    } else {
                        slope += self.weight(member);
                    }
                }
            }
        }
        if slope == 0 { base } else { Share::new(total - fixed, slope) }
    }

    /// What all zones together hold at a level.
    fn held(&self, level: Share) -> Share {
        let parts = self.zones.iter().map(|zone| {
            let (held, floor, cap) = self.zone_at(zone, level);
            let scaled = |share: Share| share.numerator * level.denominator;
            held.numerator.clamp(scaled(floor), scaled(cap))
        });
        Share::new(parts.sum(), level.denominator)
    }

    /// What a zone's nodes hold at a level (over the level's denominator), its least, its most.
    fn zone_at(&self, zone: &ZoneRule, level: Share) -> (Share, Share, Share) {
        let full = self.whole * level.denominator;
        let held = |&m: &usize| (level.numerator * self.weight(m)).min(full);
        let held = Share::new(zone.members.iter().map(held).sum(), level.denominator);
        let bound = |copies: usize| Share::new(copies as u128 * self.whole, 1);
        (held, bound(zone.at_least), bound(zone.at_most))
    }

    /// The least level at which the zone's nodes hold `total`, which they can.
    fn level_in(&self, zone: &ZoneRule, total: u128) -> Share {
        let mut weights: Vec<u128> = zone.members.iter().map(|&m| self.weight(m)).collect();
        weights.sort_unstable_by(|one, other| other.cmp(one));
        let mut rest: u128 = weights.iter().sum();
        let mut left = total;
        for weight in weights {
            // The heaviest fill up first; the first that does not is in the last straight piece.
            if left * weight <= self.whole * rest {
                return Share::new(left, rest);
            }
            left -= self.whole;
            rest -= weight;
        }
        Share::ZERO
    }

    fn node_at(&self, node: usize, level: Share) -> Share {
        if self.is_full(node, level) {
            return Share::new(self.whole, 1);
        }
        Share::new(level.numerator * self.weight(node), level.denominator)
    }

    fn is_full(&self, node: usize, level: Share) -> bool {
        level.numerator * self.weight(node) >= self.whole * level.denominator
    }

    fn weight(&self, node: usize) -> u128 {
        self.specs.get(node).map_or(0, |spec| u128::from(spec.weight))
    }
}
