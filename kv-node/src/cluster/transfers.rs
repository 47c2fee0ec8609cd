//! How far a node has got with the partitions that the newest layout gives it, as it tells all.
//!
//! A fact of gossip while a transition runs. It is for eyes only: that a node is finished, it says
//! by another fact (`membership.rs`).

/// What a node fills, since it knows the newest layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    /// The newest layout.
    pub epoch: u64,
    /// Partitions that it had to fill.
    pub begun: u32,
    /// Partitions that it has to fill still.
    pub left: u32,
    /// Bytes sent and received for it.
    pub bytes: u64,
    /// Milliseconds since it knows that layout, or since it started.
    pub ms: u64,
}

impl Transfers {
    /// Bytes of the fact.
    pub const BYTES: usize = 32;

    /// The fact.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let fields = [
            &self.epoch.to_le_bytes()[..],
            &self.begun.to_le_bytes(),
            &self.left.to_le_bytes(),
            &self.bytes.to_le_bytes(),
            &self.ms.to_le_bytes(),
        ];
        for (to, from) in bytes.iter_mut().zip(fields.concat()) {
            *to = from;
        }
        bytes
    }

    /// Reads a fact; `None` for anything that isn't one. A later version may append to it.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (epoch, rest) = bytes.split_first_chunk::<8>()?;
        let (begun, rest) = rest.split_first_chunk::<4>()?;
        let (left, rest) = rest.split_first_chunk::<4>()?;
        let (sent, rest) = rest.split_first_chunk::<8>()?;
        let (ms, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            epoch: u64::from_le_bytes(*epoch),
            begun: u32::from_le_bytes(*begun),
            left: u32::from_le_bytes(*left),
            bytes: u64::from_le_bytes(*sent),
            ms: u64::from_le_bytes(*ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_fewer_do_not() {
        let told = Transfers { epoch: 7, begun: 512, left: 3, bytes: 1 << 40, ms: 90_000 };
        let mut bytes = told.to_bytes().to_vec();
        assert_eq!(Transfers::from_bytes(&bytes), Some(told));
        bytes.push(1);
        assert_eq!(Transfers::from_bytes(&bytes), Some(told), "what came later");
        assert_eq!(Transfers::from_bytes(&bytes[..31]), None);
    }
}
