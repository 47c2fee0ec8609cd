//! Links between real nodes, cut by the kernel's packet filter in a network of the test's own.
//!
//! All nodes listen on the same ports at loopback addresses of their own and dial from these, so a
//! link is a pair of addresses and the nodes' port; clients, on another port, are never cut off.
//! A test runs itself again in a new network namespace, which goes with it: nothing of the
//! machine's own network is touched. That needs root, `unshare`, `ip` and `iptables`; without them
//! the test says so and is skipped.

use std::ffi::OsStr;
use std::io;
use std::process::{Command, Stdio};

/// Where every node listens for its peers.
pub(super) const RPC_PORT: u16 = 7_101;
/// Set in the process that runs in the namespace.
const INSIDE: &str = "KV_TESTS_OWN_NETWORK";

/// Where a test finds itself.
#[derive(Debug)]
pub enum Network {
    /// In a network of its own: go on.
    Own,
    /// The test has run in a network of its own, and passed.
    Passed,
    /// There can be none here, and why.
    Unavailable(String),
}

impl Network {
    /// Whether this is the test's own network. If not, the test is over: it has run there, or it is
    /// skipped, which is printed.
    ///
    /// # Panics
    /// The test failed there.
    #[must_use]
    #[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
    pub fn is_own(test: &str) -> bool {
        match Self::enter(test).expect("the test passes in a network of its own") {
            Self::Own => true,
            Self::Passed => false,
            Self::Unavailable(why) => {
                println!("SKIPPED {test}: no network of its own: {why}");
                false
            }
        }
    }

    /// Runs the test of this name again in a network of its own, or says that this is the one.
    ///
    /// # Errors
    /// The test failed there.
    pub fn enter(test: &str) -> io::Result<Self> {
        if std::env::var_os(INSIDE).is_some() {
            run("ip", ["link", "set", "lo", "up"])?;
            return Ok(Self::Own);
        }
        for (tool, arguments) in
            [("unshare", ["-n", "true"]), ("iptables", ["-w", "-S"]), ("ip", ["-br", "link"])]
        {
            if let Err(error) = run(tool, arguments) {
                return Ok(Self::Unavailable(error.to_string()));
            }
        }
        let status = Command::new("unshare")
            .arg("-n")
            .arg(std::env::current_exe()?)
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(INSIDE, "1")
            .status()?;
        if status.success() {
            Ok(Self::Passed)
        } else {
            Err(io::Error::other(format!("{test} failed in a network of its own")))
        }
    }
}

/// The links between the nodes of a spread-out cluster, all healed when it goes.
#[derive(Debug)]
pub struct Links {
    nodes: usize,
}

impl Links {
    /// The links of a network of the test's own, all whole.
    #[must_use]
    pub fn whole(nodes: usize) -> Self {
        Self { nodes }
    }

    /// `to` hears nothing more from `from`, the other way stays.
    ///
    /// # Errors
    /// The packet filter refused.
    pub fn cut_one_way(&self, from: usize, to: usize) -> io::Result<()> {
        for port in ["--dport", "--sport"] {
            run(
                "iptables",
                [
                    "-w",
                    "-A",
                    "INPUT",
                    "-p",
                    "tcp",
                    "-s",
                    &address(from),
                    "-d",
                    &address(to),
                    port,
                    &RPC_PORT.to_string(),
                    "-j",
                    "DROP",
                ],
            )?;
        }
        Ok(())
    }

    /// Cuts a link both ways.
    ///
    /// # Errors
    /// The packet filter refused.
    pub fn cut(&self, one: usize, other: usize) -> io::Result<()> {
        self.cut_one_way(one, other)?;
        self.cut_one_way(other, one)
    }

    /// Cuts every link between `side` and the others.
    ///
    /// # Errors
    /// The packet filter refused.
    pub fn split(&self, side: &[usize]) -> io::Result<()> {
        for one in side {
            for other in (0..self.nodes).filter(|other| !side.contains(other)) {
                self.cut(*one, other)?;
            }
        }
        Ok(())
    }

    /// Each of five nodes hears only its two neighbours: every node sees a majority, no two the
    /// same one.
    ///
    /// # Errors
    /// The packet filter refused.
    pub fn ring(&self) -> io::Result<()> {
        for one in 0..self.nodes {
            for other in one + 1..self.nodes {
                let apart = (other - one).min(self.nodes + one - other);
                if apart > 1 {
                    self.cut(one, other)?;
                }
            }
        }
        Ok(())
    }

    /// Makes every link whole.
    ///
    /// # Errors
    /// The packet filter refused.
    pub fn heal(&self) -> io::Result<()> {
        run("iptables", ["-w", "-F", "INPUT"])
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        // The namespace goes with the test; this is for a test that goes on.
        let _left = self.heal();
    }
}

fn address(place: usize) -> String {
    format!("127.0.0.{}", place + 1)
}

pub(super) fn run(
    tool: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> io::Result<()> {
    let done = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("{tool}: {error}")))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(io::Error::other(format!("{tool}: {}", said.trim())))
}
