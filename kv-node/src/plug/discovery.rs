//! Where a node looks for others: a list in its settings, a file that somebody keeps up to date.
//!
//! Seeds are only where a node asks first; whom it belongs to is decided by what it is told there
//! and by the cluster's record. So a stale seed costs one refused connection and nothing else.

use std::path::PathBuf;
use std::{fs, io};

use async_trait::async_trait;

use super::transport::PeerAddress;

/// Addresses that are asked for at most; further ones are left out.
pub const SEEDS_MAX: usize = 64;

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
    async fn seeds_are_bounded() {
        let many = StaticSeeds((0..100).map(|n| format!("h:{n}")).collect());
        assert_eq!(many.seeds().await.unwrap().len(), SEEDS_MAX);
    }
}
