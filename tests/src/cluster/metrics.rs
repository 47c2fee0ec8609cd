//! A node's `/metrics` page, read back as an operator's scraper would.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A node on this machine answers in this time.
const ANSWER_MS_MAX: u64 = 5_000;

/// One page.
#[derive(Clone, Debug)]
pub struct Metrics(String);

impl Metrics {
    /// Asks the HTTP port at this address.
    ///
    /// # Errors
    /// Nobody answers there, or not with a page.
    pub fn of(address: SocketAddr) -> io::Result<Self> {
        let limit = Duration::from_millis(ANSWER_MS_MAX);
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if answer.starts_with("HTTP/1.1 200") {
            Ok(Self(answer))
        } else {
            Err(io::Error::other(format!("no page: {}", answer.lines().next().unwrap_or(""))))
        }
    }

    /// The sum of all figures of this name, whatever their labels; 0 if there is none.
    #[must_use]
    pub fn sum(&self, name: &str) -> u64 {
        let figures = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = match rest.strip_prefix('{') {
                Some(labels) => labels.rsplit_once("} ")?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.trim().parse::<f64>().ok()
        });
        #[expect(clippy::cast_sign_loss, reason = "counters and sizes are not negative")]
        let sum = figures.sum::<f64>() as u64;
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_one_name_are_added_and_no_others() {
        let page = "# HELP kv_a no 7\nkv_a{peer=\"x\"} 3\nkv_a{peer=\"y} 1\"} 4\nkv_ab 9\nkv_c 2\n";
        let metrics = Metrics(page.into());
        assert_eq!([metrics.sum("kv_a"), metrics.sum("kv_c"), metrics.sum("kv_d")], [7, 2, 0]);
    }
}
