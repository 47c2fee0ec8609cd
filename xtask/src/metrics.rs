//! `cargo xtask metrics`: what is written from kv-node's registry of figures.
//!
//! That is `docs/METRICS.md`, the Grafana dashboard, the Prometheus alert rules and the table of
//! alerts in `docs/OPERATING.md`. A test of kv-node writes them, which knows the registry. The
//! ordinary tests fail where a file is not what would be written now: so does CI.

use crate::cmd;
use crate::error::Result;

/// The test of kv-node that writes.
const TEST: &str = "metrics::papers::the_papers_are_what_the_registry_says";
/// Makes it write before it compares.
const WRITE: &str = "KV_WRITE_DOCS";

/// Writes the files, or only looks whether they are as they would be written.
pub(crate) fn run(check: bool) -> Result<()> {
    let args = ["test", "--quiet", "--locked", "-p", "kv-node", "--lib", "--", "--exact", TEST];
    let mut test = cmd::cargo(&args);
    test.env_remove(WRITE);
    if !check {
        test.env(WRITE, "1");
    }
    cmd::run(&mut test)
}
