//! The parts of the documented JSON that several verbs share. Ids and tenures are text, since many
//! readers of JSON keep numbers in 53 bits.

use kv_client::wire::DotName;
use serde_json::{Map, Value, json};

use crate::text;

/// Puts bytes under `name` as text, or under `name_hex` where text can't hold them or is not
/// wanted.
pub(crate) fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8], hex: bool) {
    match str::from_utf8(bytes) {
        Ok(text) if !hex => object.insert(name.to_owned(), text.into()),
        _ => object.insert(format!("{name}_hex"), text::hex(bytes).into()),
    };
}

/// A dot.
pub(crate) fn dot(dot: &DotName) -> Value {
    json!({
        "ms": dot.time >> 16,
        "counter": dot.time & 0xffff,
        "node": dot.node.to_string(),
        "tenure": format!("{:016x}", dot.tenure),
    })
}
