//! Requests and answers as bytes, drawn. Decoding allocates no more than the bytes that came.
//!
//! ```text
//! message = version u8 | kind u8 | body                                  all big-endian
//! kind 1 Open        depth of the tree u8 | levels u8 | root 16 bytes
//!      2 Compare     depth of the tree u8 | depth u8 | levels u8 | count u16 | node u32 *
//!      3 Same
//!      4 OtherShape  depth of the tree u8
//!      5 Nodes       depth u8 | count u16 | digest 16 bytes *
//! ```

use alloc::vec::Vec;

use crate::Error;
use crate::digest::Digest;
use crate::exchange::{ANSWER_DIGESTS_MAX, Answer, Request};
use crate::shape::Shape;

/// The version of the format, first byte of each message.
pub const WIRE_VERSION: u8 = 1;

const _: () = assert!(ANSWER_DIGESTS_MAX <= u16::MAX as usize);

impl Request {
    /// The request as bytes: at most 16 KiB.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::from([WIRE_VERSION]);
        match self {
            Self::Open { shape, root, levels } => {
                bytes.extend([1, shape.depth(), *levels]);
                bytes.extend(root.to_bytes());
            }
            Self::Compare { shape, depth, levels, nodes } => {
                bytes.extend([2, shape.depth(), *depth, *levels]);
                let nodes = nodes.get(..ANSWER_DIGESTS_MAX).unwrap_or(nodes);
                bytes.extend((nodes.len() as u16).to_be_bytes());
                bytes.extend(nodes.iter().flat_map(|node| node.to_be_bytes()));
            }
        }
        bytes
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`Error::Version`], [`Error::Truncated`], [`Error::Malformed`], [`Error::Depth`]. Whether
    /// the nodes exist is for [`answer`](crate::answer) to say.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes)?;
        let request = match reader.u8()? {
            1 => Self::Open {
                shape: Shape::new(reader.u8()?)?,
                levels: reader.u8()?,
                root: Digest::from_bytes(reader.array()?),
            },
            2 => Self::Compare {
                shape: Shape::new(reader.u8()?)?,
                depth: reader.u8()?,
                levels: reader.u8()?,
                nodes: reader.list(u32::from_be_bytes)?,
            },
            _ => return Err(Error::Malformed { field: "kind" }),
        };
        reader.end(request)
    }
}

impl Answer {
    /// The answer as bytes: at most 64 KiB.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::from([WIRE_VERSION]);
        match self {
            Self::Same => bytes.push(3),
            Self::OtherShape { shape } => bytes.extend([4, shape.depth()]),
            Self::Nodes { depth, digests } => {
                bytes.extend([5, *depth]);
                let digests = digests.get(..ANSWER_DIGESTS_MAX).unwrap_or(digests);
                bytes.extend((digests.len() as u16).to_be_bytes());
                bytes.extend(digests.iter().flat_map(|digest| digest.to_bytes()));
            }
        }
        bytes
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`Error::Version`], [`Error::Truncated`], [`Error::Malformed`], [`Error::Depth`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes)?;
        let answer = match reader.u8()? {
            3 => Self::Same,
            4 => Self::OtherShape { shape: Shape::new(reader.u8()?)? },
            5 => Self::Nodes { depth: reader.u8()?, digests: reader.list(Digest::from_bytes)? },
            _ => return Err(Error::Malformed { field: "kind" }),
        };
        reader.end(answer)
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Self { rest: bytes };
        match reader.u8()? {
            WIRE_VERSION => Ok(reader),
            found => Err(Error::Version { found }),
        }
    }

    fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(|[byte]| byte)
    }

    fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], Error> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// A list with its count in front: the bytes must be there before room is made for them.
    fn list<T, const LENGTH: usize>(
        &mut self,
        item: impl Fn([u8; LENGTH]) -> T,
    ) -> Result<Vec<T>, Error> {
        let count = usize::from(u16::from_be_bytes(self.array()?));
        if count > ANSWER_DIGESTS_MAX {
            return Err(Error::Malformed { field: "count" });
        }
        if self.rest.len() < count * LENGTH {
            return Err(Error::Truncated);
        }
        (0..count).map(|_| self.array().map(&item)).collect()
    }

    fn end<T>(self, message: T) -> Result<T, Error> {
        if self.rest.is_empty() { Ok(message) } else { Err(Error::Malformed { field: "end" }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_pinned() {
        let shape = Shape::new(10).unwrap();
        let open = Request::Open { shape, root: Digest::new(5), levels: 4 };
        let mut bytes = alloc::vec![1, 1, 10, 4];
        bytes.extend([0; 15]);
        bytes.push(5);
        assert_eq!(open.encode(), bytes);
        let compare = Request::Compare { shape, depth: 4, levels: 3, nodes: alloc::vec![2, 258] };
        assert_eq!(compare.encode(), [1, 2, 10, 4, 3, 0, 2, 0, 0, 0, 2, 0, 0, 1, 2]);
        assert_eq!(Answer::Same.encode(), [1, 3]);
        assert_eq!(Answer::OtherShape { shape }.encode(), [1, 4, 10]);
        let nodes = Answer::Nodes { depth: 7, digests: alloc::vec![Digest::ZERO] };
        assert_eq!(nodes.encode()[..4], [1, 5, 7, 0]);
        assert_eq!(nodes.encode().len(), 4 + 1 + 16);
    }

    #[test]
    fn each_error_is_named() {
        assert_eq!(Request::decode(&[]), Err(Error::Truncated));
        assert_eq!(Request::decode(&[9, 1]), Err(Error::Version { found: 9 }));
        assert_eq!(Request::decode(&[1, 3]), Err(Error::Malformed { field: "kind" }));
        assert_eq!(Answer::decode(&[1, 4, 17]), Err(Error::Depth { depth: 17 }));
        assert_eq!(Answer::decode(&[1, 3, 0]), Err(Error::Malformed { field: "end" }));
        assert_eq!(Answer::decode(&[1, 5, 1, 0, 1, 0]), Err(Error::Truncated));
        let count = Error::Malformed { field: "count" };
        assert_eq!(Answer::decode(&[1, 5, 1, 0x10, 1]), Err(count));
    }
}
