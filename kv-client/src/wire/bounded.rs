//! A list that can't be decoded past its bound, whatever length its sender claims.
//!
//! A byte or two on the wire can become a hundred in memory, so a frame limit alone does not bound
//! what a list of small operations costs its receiver.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// At most `MAX` items. Making one with more is an error, and so is decoding one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounded<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> Bounded<T, MAX> {
    /// Takes a list.
    ///
    /// # Errors
    /// It has more than `MAX` items; it comes back.
    pub fn new(items: Vec<T>) -> Result<Self, Vec<T>> {
        if items.len() <= MAX { Ok(Self(items)) } else { Err(items) }
    }

    /// The list.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }

    /// The items.
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }
}

impl<T: Serialize, const MAX: usize> Serialize for Bounded<T, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Items<T, MAX> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX} items")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
                let claimed = seq.size_hint().unwrap_or(0);
                if claimed > MAX {
                    return Err(A::Error::invalid_length(claimed, &self));
                }
                // Items have at least a byte on the wire, and the reader stops at the frame's end.
                let mut items = Vec::with_capacity(claimed.min(64));
                while let Some(item) = seq.next_element()? {
                    if items.len() == MAX {
                        return Err(A::Error::invalid_length(MAX + 1, &self));
                    }
                    items.push(item);
                }
                Ok(items)
            }
        }

        deserializer.deserialize_seq(Items::<T, MAX>(PhantomData)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{decode, encode};

    #[test]
    fn the_bound_holds_on_both_sides() {
        let three = Bounded::<u8, 3>::new(vec![1, 2, 3]).expect("three fit");
        let frame = encode(&three, 64).expect("it fits");
        assert_eq!(decode::<Bounded<u8, 3>>(&frame), Ok(three));
        assert_eq!(Bounded::<u8, 3>::new(vec![0; 4]), Err(vec![0; 4]));
        assert!(decode::<Bounded<u8, 2>>(&frame).is_err());
        // Units have no bytes on the wire: only the bound stops a claim of 2^63.
        let claim = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(decode::<Bounded<(), 1000>>(&claim).is_err());
    }
}
