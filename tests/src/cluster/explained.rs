//! What KV.EXPLAIN says of a key, read back: its primaries and what each of them has.

use redis::Value;

use super::Client;

/// An answer of KV.EXPLAIN.
#[derive(Clone, Debug)]
pub struct Explained {
    /// Primaries, then fallbacks, by id.
    preference: Vec<String>,
    /// Copies of each pair.
    n: usize,
    /// For each replica the versions that it named, as one text; `None` if it named none because
    /// it did not answer.
    versions: Vec<Option<String>>,
}

impl Explained {
    /// Asks a node; `None` if it does not answer.
    pub fn of(client: &mut Client<'_>, node: usize, key: &str) -> Option<Self> {
        let answer: Value = client.ask(node, redis::cmd("KV.EXPLAIN").arg(key)).ok()?;
        let preference = items(field(&answer, "preference")?).iter().map(text).collect();
        let Value::Int(n) = field(&answer, "n")? else { return None };
        let versions = items(field(&answer, "replicas")?).iter().map(|replica| {
            let versions = field(replica, "versions")?;
            matches!(versions, Value::Array(_)).then(|| format!("{versions:?}"))
        });
        Some(Self { preference, n: usize::try_from(*n).ok()?, versions: versions.collect() })
    }

    /// Whether all replicas answered, with the same versions.
    #[must_use]
    pub fn agree(&self) -> bool {
        let first = self.versions.first();
        first.is_some_and(|first| {
            first.is_some() && self.versions.iter().all(|versions| versions == first)
        })
    }

    /// The places of the primaries among the client's nodes.
    pub fn primaries(&self, client: &mut Client<'_>) -> Vec<usize> {
        let ids: Vec<String> = (0..client.nodes())
            .map(|node| client.ask(node, redis::cmd("CLUSTER").arg("MYID")).unwrap_or_default())
            .collect();
        let place = |name: &String| ids.iter().position(|id| id.contains(name.as_str()));
        self.preference.iter().take(self.n).filter_map(place).collect()
    }
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        _ => &[],
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        other => format!("{other:?}"),
    }
}

/// A field of a map, which RESP2 sends as a flat array.
fn field<'v>(map: &'v Value, name: &str) -> Option<&'v Value> {
    match map {
        Value::Map(pairs) => pairs.iter().find(|(key, _)| text(key) == name).map(|pair| &pair.1),
        Value::Array(flat) => flat
            .chunks_exact(2)
            .find_map(|pair| (text(pair.first()?) == name).then(|| pair.get(1))?),
        _ => None,
    }
}
