//! `cargo xtask shots`: pictures of the terminal's tabs, as SVG under docs/shots/.
//!
//! They are drawn by a test of kv-tui, from the models that its frames are tested with, so that
//! they need no cluster and are the same everywhere. The ordinary tests fail where a picture is not
//! what would be drawn now: so does CI.

use crate::cmd;
use crate::error::Result;

/// The test of kv-tui that draws.
const TEST: &str = "shots::the_readmes_pictures_are_those_of_this_code";
/// Makes it write instead of compare.
const WRITE: &str = "KV_SHOTS_WRITE";

/// Draws the pictures, or only looks whether they are as they would be drawn.
pub(crate) fn run(check: bool) -> Result<()> {
    let args = ["test", "--quiet", "--locked", "-p", "kv-tui", "--lib", "--", "--exact", TEST];
    let mut test = cmd::cargo(&args);
    test.env_remove(WRITE);
    if !check {
        test.env(WRITE, "1");
    }
    cmd::run(&mut test)
}
