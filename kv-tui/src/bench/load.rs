//! Before a run: who is asked, and the keys that it will ask for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;

use super::Plan;
use super::client::POOL_BYTES;
use super::keys::Chance;
use crate::Error;
use crate::resp::{Command, Link, Reply, Target};

const LOADERS: u64 = 8;
const KEYS_AT_ONCE: u64 = 64;

/// What the server calls itself.
///
/// # Errors
/// It is not there, or does not let us in.
pub(crate) async fn server_name(plan: &Plan, target: &Target) -> Result<String, Error> {
    let mut link = Link::open(target, plan.wait).await?;
    let info = link
        .ask(&[b"INFO"], |reply| match reply {
            Reply::Bulk(Some(info)) => Some(String::from_utf8_lossy(info).into_owned()),
            _ => None,
        })
        .await?;
    Ok(name_of(&info))
}

fn name_of(info: &str) -> String {
    let field = |name: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(|value| value.trim_end().to_owned())
    };
    match (field("kv_version"), field("redis_version")) {
        (Some(version), _) => format!("kv {version}"),
        (None, Some(version)) => format!("redis {version}"),
        (None, None) => "unknown".to_owned(),
    }
}

/// Bytes that values are cut out of: letters, so that they can be looked at, by chance, so that
/// they can't be compressed away.
pub(crate) fn pool(plan: &Plan) -> Vec<u8> {
    let mut chance = Chance::new(plan.seed);
    let bytes = POOL_BYTES + plan.value_bytes as usize;
    (0..bytes).map(|_| b' ' + 1 + chance.below(94) as u8).collect()
}

/// Writes all the plan's keys. `progress` is told how many are there.
///
/// # Errors
/// One of them was not stored.
pub(crate) async fn load(plan: &Plan, mut progress: impl FnMut(u64)) -> Result<(), Error> {
    let plan = Arc::new(plan.clone());
    let pool = Arc::new(pool(&plan));
    let next = Arc::new(AtomicU64::new(0));
    let mut loaders = JoinSet::new();
    for number in 0..LOADERS {
        loaders.spawn(loader(Arc::clone(&plan), Arc::clone(&pool), Arc::clone(&next), number));
    }
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(200));
    loop {
        tokio::select! {
            biased;
            loaded = loaders.join_next() => match loaded {
                None => return Ok(()),
                Some(Ok(loaded)) => loaded?,
                Some(Err(ended)) => return Err(Error::Io(ended.into())),
            },
            _ = tick.tick() => progress(next.load(Ordering::Relaxed).min(plan.keys)),
        }
    }
}

async fn loader(
    plan: Arc<Plan>,
    pool: Arc<Vec<u8>>,
    next: Arc<AtomicU64>,
    number: u64,
) -> Result<(), Error> {
    let target = plan.targets.iter().cycle().nth(number as usize);
    let Some(target) = target else { return Ok(()) };
    let mut link = Link::open(target, plan.wait).await?;
    let mut chance = Chance::new(plan.seed ^ number << 48);
    loop {
        let from = next.fetch_add(KEYS_AT_ONCE, Ordering::Relaxed);
        let keys = from..(from + KEYS_AT_ONCE).min(plan.keys);
        if keys.is_empty() {
            return Ok(());
        }
        let mut commands = Command::default();
        for key in keys {
            let at = chance.below(POOL_BYTES as u64) as usize;
            let value = pool.get(at..at + plan.value_bytes as usize).unwrap_or_default();
            commands.add(&[b"SET", plan.key(key).as_bytes(), value]);
        }
        let mut refused = None;
        link.exchange(&commands, |_, reply| {
            if let Reply::Error(_) = reply {
                refused.get_or_insert_with(|| reply.told());
            }
        })
        .await?;
        if let Some(told) = refused {
            return Err(link.refusal(told));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_told_apart() {
        assert_eq!(name_of("# Server\r\nredis_version:7.0.15\r\n"), "redis 7.0.15");
        assert_eq!(name_of("redis_version:7.2.0\r\nkv_version:0.1.0\r\n"), "kv 0.1.0");
        assert_eq!(name_of(""), "unknown");
    }
}
