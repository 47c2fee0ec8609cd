//! The layout's format, version 1. It is written here and nowhere else; a fixture pins it.
//!
//! ```text
//! magic "KVLY" | version u8 = 1 | log2 partitions u8 | N u8 | 0 u8 | epoch u64 | members u16
//! each member, ascending:   code u64 | weight u32 | zone u64
//! each partition, N times:  index of the owner among the members u16
//! digest u64 = XXH3-64 of all before it
//! ```
//!
//! Integers are big-endian. Invariant: one layout has one encoding, and decoding takes that one
//! only. The length follows from the first 18 bytes and is compared before anything is allocated,
//! so a hostile encoding costs no more memory than a small multiple of itself.

use alloc::vec::Vec;

use crate::error::Error;
use crate::layout::{Layout, MEMBERS_MAX, REPLICAS_MAX};
use crate::partition::PartitionCount;
use crate::topology::{NodeCode, NodeSpec, Zone};

const MAGIC: [u8; 4] = *b"KVLY";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 18;
const MEMBER_BYTES: usize = 20;
const OWNER_BYTES: usize = 2;
const DIGEST_BYTES: usize = 8;

impl<N: NodeCode> Layout<N> {
    /// The layout as bytes: 26, 20 for each member, 2 for each copy of a partition.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = body(self);
        bytes.extend_from_slice(&self.digest.to_be_bytes());
        bytes
    }

    /// The layout of these bytes, which may come from anybody.
    ///
    /// # Errors
    /// [`Error::Magic`], [`Error::Version`], [`Error::Length`], [`Error::Digest`],
    /// [`Error::PartitionCount`], [`Error::Replicas`], [`Error::TooManyNodes`] and
    /// [`Error::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader { bytes };
        let short = Error::Length { expected: HEADER_BYTES, actual: bytes.len() };
        if reader.take::<4>().ok_or(short)? != MAGIC {
            return Err(Error::Magic);
        }
        let [version] = reader.take().ok_or(short)?;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let [log2, replicas, reserved] = reader.take().ok_or(short)?;
        let epoch = u64::from_be_bytes(reader.take().ok_or(short)?);
        let count = usize::from(u16::from_be_bytes(reader.take().ok_or(short)?));
        let partitions = PartitionCount::new(1_u32.checked_shl(u32::from(log2)).unwrap_or(0))?;
        let replicas = usize::from(replicas);
        if replicas == 0 || replicas > REPLICAS_MAX {
            return Err(Error::Replicas(replicas));
        }
        if count > MEMBERS_MAX {
            return Err(Error::TooManyNodes { nodes: count, nodes_max: MEMBERS_MAX });
        }
        if reserved != 0 {
            return Err(Error::Malformed("reserved byte"));
        }
        if epoch == 0 {
            return Err(Error::Malformed("epoch"));
        }
        let expected = encoded_bytes(count, partitions, replicas);
        let wrong = Error::Length { expected, actual: bytes.len() };
        if bytes.len() != expected {
            return Err(wrong);
        }
        let body = bytes.get(..expected - DIGEST_BYTES).ok_or(wrong)?;
        let digest = bytes.get(expected - DIGEST_BYTES..).ok_or(wrong)?;
        if twox_hash::XxHash3_64::oneshot(body).to_be_bytes() != digest {
            return Err(Error::Digest);
        }
        let members = read_members(&mut reader, count).ok_or(Error::Malformed("members"))?;
        let places: Vec<u16> = (0..partitions.count() * replicas)
            .map_while(|_| reader.take().map(u16::from_be_bytes))
            .collect();
        Self::from_places(epoch, partitions, replicas, members, &places)
            .ok_or(Error::Malformed("owners"))
    }
}

pub(crate) fn digest<N: NodeCode>(layout: &Layout<N>) -> u64 {
    twox_hash::XxHash3_64::oneshot(&body(layout))
}

fn body<N: NodeCode>(layout: &Layout<N>) -> Vec<u8> {
    let (members, partitions) = (&layout.members, layout.partitions);
    let size = encoded_bytes(members.len(), partitions, layout.replicas);
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(&MAGIC);
    let log2 = partitions.count().trailing_zeros() as u8;
    bytes.extend_from_slice(&[VERSION, log2, layout.replicas as u8, 0]);
    bytes.extend_from_slice(&layout.epoch.to_be_bytes());
    bytes.extend_from_slice(&(members.len() as u16).to_be_bytes());
    for (node, spec) in members.iter().zip(&layout.specs) {
        bytes.extend_from_slice(&node.code().to_be_bytes());
        bytes.extend_from_slice(&spec.weight.to_be_bytes());
        bytes.extend_from_slice(&spec.zone.number().to_be_bytes());
    }
    for place in layout.places() {
        bytes.extend_from_slice(&place.to_be_bytes());
    }
    bytes
}

fn read_members<N: NodeCode>(
    reader: &mut Reader<'_>,
    count: usize,
) -> Option<(Vec<N>, Vec<NodeSpec>)> {
    let mut members: Vec<N> = Vec::with_capacity(count);
    let mut specs = Vec::with_capacity(count);
    for _ in 0..count {
        let node = N::from_code(u64::from_be_bytes(reader.take()?))?;
        if members.last().is_some_and(|&last| last >= node) {
            return None;
        }
        members.push(node);
        let weight = u32::from_be_bytes(reader.take()?);
        specs.push(NodeSpec::new(weight, Zone::new(u64::from_be_bytes(reader.take()?))));
    }
    Some((members, specs))
}

const fn encoded_bytes(members: usize, partitions: PartitionCount, replicas: usize) -> usize {
    HEADER_BYTES
        + members * MEMBER_BYTES
        + partitions.count() * replicas * OWNER_BYTES
        + DIGEST_BYTES
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn take<const LEN: usize>(&mut self) -> Option<[u8; LEN]> {
        let (head, tail) = self.bytes.split_first_chunk()?;
        self.bytes = tail;
        Some(*head)
    }
}
