//! Where a node looks for others: a list in its settings, a file that somebody keeps up to date,
//! names whose addresses a resolver tells.
//!
//! Seeds are only where a node asks first; whom it belongs to is decided by what it is told there
//! and by the cluster's record. So a stale seed costs one refused connection and nothing else.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, io};

use async_trait::async_trait;
use futures::future::join_all;

use super::transport::PeerAddress;

/// Addresses that are asked for at most; further ones are left out.
pub const SEEDS_MAX: usize = 64;
/// Names that are looked up at most.
pub const DNS_NAMES_MAX: usize = 8;
/// A resolver that takes longer is taken for one that does not answer.
const LOOKUP_MS_MAX: u64 = 2_000;

/// A source of seeds.
#[async_trait]
pub trait Discovery: Send + Sync + 'static {
    /// The addresses to ask now, without duplicates, at most `SEEDS_MAX`. Empty is an answer: a
    /// node alone.
    ///
    /// # Errors
    /// The source can't be read; the seeds of before still hold.
    async fn seeds(&self) -> io::Result<Vec<PeerAddress>>;
}

/// The same seeds always.
#[derive(Clone, Debug, Default)]
pub struct StaticSeeds(pub Vec<PeerAddress>);

#[async_trait]
impl Discovery for StaticSeeds {
    async fn seeds(&self) -> io::Result<Vec<PeerAddress>> {
        Ok(bounded(self.0.iter().cloned()))
    }
}

/// Seeds in a file, one address a line, read anew each time. What follows a `#` is a comment.
#[derive(Clone, Debug)]
pub struct FileSeeds {
    path: PathBuf,
    also: Vec<PeerAddress>,
}

impl FileSeeds {
    /// The seeds of `also`, then those in the file at `path`.
    pub fn new(path: PathBuf, also: Vec<PeerAddress>) -> Self {
        Self { path, also }
    }
}

#[async_trait]
impl Discovery for FileSeeds {
    async fn seeds(&self) -> io::Result<Vec<PeerAddress>> {
        let text = fs::read_to_string(&self.path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
        })?;
        let lines = text.lines().filter_map(|line| {
            let address = line.split('#').next()?.trim();
            (!address.is_empty()).then(|| address.to_owned())
        });
        Ok(bounded(self.also.iter().cloned().chain(lines)))
    }
}

/// Every address of some names, looked up anew each time, behind the seeds of another source: what
/// clusters of containers call a headless service.
pub struct DnsSeeds {
    names: Vec<String>,
    also: Box<dyn Discovery>,
    /// That a name does not resolve was logged, and holds still.
    told: AtomicBool,
}

impl DnsSeeds {
    /// The seeds of `also`, then the addresses of the first `DNS_NAMES_MAX` of `names`, each
    /// `host:port`.
    pub fn new(names: &[String], also: Box<dyn Discovery>) -> Self {
        let names = names.iter().take(DNS_NAMES_MAX).cloned().collect();
        Self { names, also, told: AtomicBool::new(false) }
    }
}

#[async_trait]
impl Discovery for DnsSeeds {
    /// As long as anything is found it is an answer: one name that is gone must not hide the
    /// others.
    async fn seeds(&self) -> io::Result<Vec<PeerAddress>> {
        let mut found = self.also.seeds().await?;
        let mut failed = None;
        for addresses in join_all(self.names.iter().map(|name| look_up(name))).await {
            match addresses {
                Ok(addresses) => found.extend(addresses),
                Err(error) => failed = Some(error),
            }
        }
        let known = self.told.swap(failed.is_some(), Ordering::Relaxed);
        match failed {
            Some(error) if found.is_empty() => return Err(error),
            Some(error) if !known => tracing::warn!(%error, "some seeds are not known"),
            _ => {}
        }
        Ok(bounded(found.into_iter()))
    }
}

async fn look_up(name: &str) -> io::Result<Vec<PeerAddress>> {
    let limit = Duration::from_millis(LOOKUP_MS_MAX);
    let answer = tokio::time::timeout(limit, tokio::net::lookup_host(name)).await;
    let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let addresses = answer.map_err(|error| {
        io::Error::new(error.kind(), format!("{name} does not resolve: {error}"))
    })?;
    Ok(addresses.map(|address| address.to_string()).collect())
}

/// The first of each, in order, within the bound.
fn bounded(addresses: impl Iterator<Item = PeerAddress>) -> Vec<PeerAddress> {
    let mut out = Vec::new();
    for address in addresses {
        if out.len() < SEEDS_MAX && !out.contains(&address) {
            out.push(address);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_anew_with_comments_and_without_duplicates() {
        let path = std::env::temp_dir().join(format!("kv-node-seeds-{}", std::process::id()));
        let seeds = FileSeeds::new(path.clone(), vec!["a:1".into()]);
        fs::write(&path, "# the first rack\n a:1 \nb:2 # new\n\n").unwrap();
        assert_eq!(seeds.seeds().await.unwrap(), ["a:1", "b:2"]);
        fs::write(&path, "c:3\n").unwrap();
        assert_eq!(seeds.seeds().await.unwrap(), ["a:1", "c:3"]);
        fs::remove_file(&path).unwrap();
        let error = seeds.seeds().await.unwrap_err().to_string();
        assert!(error.contains("kv-node-seeds"), "{error}");
    }

    #[tokio::test]
    async fn a_name_stands_for_its_addresses_and_one_that_is_gone_hides_no_other() {
        let also = || Box::new(StaticSeeds(vec!["a:1".into()]));
        let names = |names: &[&str]| names.iter().map(|&name| name.into()).collect::<Vec<String>>();
        let both = names(&["localhost:7101", "no-such-name.invalid:7101"]);
        let found = DnsSeeds::new(&both, also()).seeds().await.unwrap();
        assert_eq!(found.first().map(String::as_str), Some("a:1"));
        assert!(found.contains(&"127.0.0.1:7101".to_owned()), "{found:?}");
        let alone = DnsSeeds::new(&both[1..], Box::<StaticSeeds>::default());
        let error = alone.seeds().await.unwrap_err().to_string();
        assert!(error.contains("no-such-name.invalid:7101 does not resolve"), "{error}");
        let many: Vec<String> = (1..20).map(|port| format!("127.0.0.1:{port}")).collect();
        let found = DnsSeeds::new(&many, Box::<StaticSeeds>::default()).seeds().await.unwrap();
        assert_eq!(found.len(), DNS_NAMES_MAX);
    }

    #[tokio::test]
    async fn seeds_are_bounded() {
        let many = StaticSeeds((0..100).map(|n| format!("h:{n}")).collect());
        assert_eq!(many.seeds().await.unwrap().len(), SEEDS_MAX);
    }
}
