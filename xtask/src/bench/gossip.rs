//! Membership at scale: kv-gossip's `scale` example, in release, for several sizes.
//!
//! It simulates, so the figures are the same on every machine for one seed; only the time that it
//! takes is this machine's. Its own exit code says whether somebody alive was declared down.

use super::{Figure, Options};
use crate::cmd;
use crate::term;

/// Sizes, and the simulated minutes of each: an hour for the largest, which the target is about.
const RUNS: [(u64, u64); 3] = [(10, 60), (100, 60), (1_000, 60)];

/// Runs every size; with `--members` only that one.
pub(super) fn measure(options: &Options) -> Figure {
    let mut markdown = String::from(
        "## Membership in a virtual network\n\n`cargo run --release -p kv-gossip --example scale`: \
         5 % of packets lost each way, delays of 1 to 40 ms, `Config::lan` of the size, periods of \
         1 s, every member publishes a fact of 64 bytes anew each second.\n\n```text\n",
    );
    let mut missed = 0;
    for (members, minutes) in RUNS {
        let members = options.members.unwrap_or(members);
        let minutes = options.minutes.unwrap_or(minutes);
        term::note(format_args!("{members} members, {minutes} simulated minutes"));
        let (members_text, minutes_text) = (members.to_string(), minutes.to_string());
        let mut command = cmd::cargo(&[
            "run",
            "--release",
            "--locked",
            "--quiet",
            "-p",
            "kv-gossip",
            "--example",
            "scale",
            "--",
            "--members",
            &members_text,
            "--minutes",
            &minutes_text,
        ]);
        match cmd::read(&mut command) {
            Ok(text) => markdown.push_str(&text),
            Err(error) => {
                missed += 1;
                markdown.extend([&members_text, " members: MISSED: ", &error.to_string(), "\n"]);
            }
        }
        markdown.push('\n');
        if options.members.is_some() {
            break;
        }
    }
    markdown.truncate(markdown.trim_end().len());
    markdown.push_str("\n```\n");
    Figure { markdown, missed }
}
