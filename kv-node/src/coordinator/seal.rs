//! Sealed contexts: what KV.GET hands out and KV.PUT takes back.
//!
//! A context is opaque to clients. It is sealed with a short keyed tag (HMAC-SHA256, cut to 64
//! bits) over keyspace, key and context, under a key that only the cluster's nodes have: a context
//! of another key, another cluster, or one that was tampered with would cover values that its
//! holder never saw, and so delete them.
//!
//! ```text
//! version (1) | tag (8) | context
//! ```

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use kv_quorum::Context;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::error::RequestError;

const FORMAT_VERSION: u8 = 1;
const TAG_BYTES: usize = 8;

/// Bytes of a sealed context at most: what is longer was not made here.
pub const SEALED_BYTES_MAX: usize = 64 * 1_024;

/// Seals a context for one key.
pub fn seal(context_key: &[u8; 32], storage_key: &[u8], context: &Context) -> Bytes {
    let body = context.to_bytes();
    let mut out = Vec::with_capacity(1 + TAG_BYTES + body.len());
    out.push(FORMAT_VERSION);
    out.extend_from_slice(&tag(context_key, storage_key, &body));
    out.extend_from_slice(&body);
    Bytes::from(out)
}

/// Opens a context that was sealed for this key.
///
/// # Errors
/// `BadContext` for anything else; nothing was done with it.
pub fn open(
    context_key: &[u8; 32],
    storage_key: &[u8],
    sealed: &[u8],
) -> Result<Context, RequestError> {
    if sealed.len() > SEALED_BYTES_MAX {
        return Err(RequestError::BadContext);
    }
    let Some(([FORMAT_VERSION], rest)) = sealed.split_first_chunk::<1>() else {
        return Err(RequestError::BadContext);
    };
    let Some((claimed, body)) = rest.split_first_chunk::<TAG_BYTES>() else {
        return Err(RequestError::BadContext);
    };
    if !bool::from(tag(context_key, storage_key, body).ct_eq(claimed)) {
        return Err(RequestError::BadContext);
    }
    Context::from_bytes(body).map_err(|_| RequestError::BadContext)
}

fn tag(context_key: &[u8; 32], storage_key: &[u8], body: &[u8]) -> [u8; TAG_BYTES] {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(context_key).expect("HMAC takes a key of any length");
    mac.update(&(storage_key.len() as u64).to_le_bytes());
    mac.update(storage_key);
    mac.update(body);
    let full = mac.finalize().into_bytes();
    let mut short = [0; TAG_BYTES];
    short.copy_from_slice(full.get(..TAG_BYTES).unwrap_or(&[0; TAG_BYTES]));
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_quorum::{Actor, Dot, HybridTime};

    #[test]
    fn a_context_opens_only_for_its_key_and_cluster() {
        let mut context = Context::new();
        context.insert(Dot { time: HybridTime::new(5, 1), actor: Actor::new(1, 2) });
        let sealed = seal(&[1; 32], b"key", &context);
        assert_eq!(open(&[1; 32], b"key", &sealed).as_ref(), Ok(&context));
        assert_eq!(open(&[1; 32], b"other", &sealed), Err(RequestError::BadContext));
        assert_eq!(open(&[2; 32], b"key", &sealed), Err(RequestError::BadContext));
        for place in 0..sealed.len() {
            let mut bent = sealed.to_vec();
            bent[place] ^= 1;
            assert_eq!(open(&[1; 32], b"key", &bent), Err(RequestError::BadContext), "{place}");
        }
        for length in 0..sealed.len() {
            assert!(open(&[1; 32], b"key", &sealed[..length]).is_err());
        }
    }
}
