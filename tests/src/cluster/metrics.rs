//! A node's `/metrics` page, read back as an operator's scraper would, only more strictly.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::exposition::{Family, Sample, parse};

/// A node on this machine answers in this time.
const ANSWER_MS_MAX: u64 = 5_000;

/// One page.
#[derive(Clone, Debug)]
pub struct Metrics(Vec<Family>);

impl Metrics {
    /// Asks the HTTP port at this address.
    ///
    /// # Errors
    /// Nobody answers there, or not with a sound page.
    pub fn of(address: SocketAddr) -> io::Result<Self> {
        let limit = Duration::from_millis(ANSWER_MS_MAX);
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, page)) if head.starts_with("HTTP/1.1 200") => {
                parse(page).map(Self).map_err(io::Error::other)
            }
            _ => Err(io::Error::other(format!("no page: {}", answer.lines().next().unwrap_or("")))),
        }
    }

    /// All figures, in their order.
    #[must_use]
    pub fn families(&self) -> &[Family] {
        &self.0
    }

    /// The values of the figure of this name.
    ///
    /// # Panics
    /// There is no such figure: a test that looks for it would look at nothing.
    #[must_use]
    pub fn values(&self, name: &str) -> &[Sample] {
        let family = self.0.iter().find(|family| family.name == name);
        &family.unwrap_or_else(|| panic!("no figure {name}")).samples
    }

    /// The sum of all values of the figure of this name, whatever their labels.
    ///
    /// # Panics
    /// There is no such figure.
    #[must_use]
    pub fn sum(&self, name: &str) -> u64 {
        #[expect(clippy::cast_sign_loss, reason = "counters and sizes are not negative")]
        let sum = self.values(name).iter().map(|sample| sample.value).sum::<f64>() as u64;
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_one_name_are_added_and_no_others() {
        let page = "# HELP kv_a no 7\n# TYPE kv_a gauge\nkv_a{peer=\"x\"} 3\n\
                    kv_a{peer=\"y} 1\"} 4\n\
                    # HELP kv_ab no\n# TYPE kv_ab gauge\nkv_ab 9\n";
        let metrics = Metrics(parse(page).unwrap());
        assert_eq!([metrics.sum("kv_a"), metrics.sum("kv_ab")], [7, 9]);
    }

    #[test]
    #[should_panic(expected = "no figure kv_b")]
    fn a_figure_that_does_not_exist_is_not_nothing() {
        let _ = Metrics(Vec::new()).sum("kv_b");
    }
}
