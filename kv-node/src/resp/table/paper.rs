//! The page for people: every command, whether it is served and how, from the table itself.
//!
//! `docs/REDIS.md` is what this writes; a test compares them, so that the page can't be wrong.

use std::fmt::Write as _;

use super::refused::REFUSED;
use super::{Class, Command, Group, SERVED, flag};

const HEAD: &str = "\
# Redis commands: what is served, and how

Written from the command table of kv-node, and checked against it by a test: what `COMMAND` tells a
client is what stands here. Where an answer means something else than on one Redis server:
[COMMANDS.md](COMMANDS.md).

**Mode.** `natural`: keeps its meaning without anybody who decides. `promise`: says something about
the value that was there, and is answered only where the keyspace says `rmw = \"best-effort\"` (by
default it is refused, and the error names the setting); then the first live primary decides, which
is exact while membership is stable, and no lock. `node`: about this node or the cluster, no key's
value. `connection`: about the connection. `SET` with `NX`, `XX` or `GET` and `EXPIRE` with a
condition are promises, too.

**Before there is a layout** (`-LOADING`): commands marked `*` are answered all the same, and so are
`PING`, `ASKING` and `CLUSTER INFO`, `NODES`, `MYID`, `KEYSLOT`. The marks are Redis's flags.

";

/// The page.
pub fn paper() -> String {
    let mut page = HEAD.to_owned();
    for (group, title) in [
        (Group::String, "Strings"),
        (Group::Generic, "Keys"),
        (Group::Kv, "Ours"),
        (Group::Transactions, "Batches"),
        (Group::Connection, "Connections"),
        (Group::Server, "The server"),
        (Group::Cluster, "The cluster"),
    ] {
        let _infallible =
            write!(page, "## {title}\n\n| command | mode | what it does |\n|---|---|---|\n");
        for command in SERVED.iter().filter(|command| command.group == group) {
            let _infallible = writeln!(
                page,
                "| `{}`{} | {} | {} |",
                name(command),
                if command.has(flag::LOADING) { " *" } else { "" },
                mode(command),
                command.summary,
            );
        }
        page.push('\n');
    }
    page.push_str("## Not served\n\nEach answers an error that says why.\n\n");
    let mut reasons: Vec<&str> = Vec::new();
    for refused in REFUSED {
        if !reasons.contains(&refused.reason) {
            reasons.push(refused.reason);
        }
    }
    for reason in reasons {
        let of_it = REFUSED.iter().filter(|refused| refused.reason == reason);
        let names: Vec<String> =
            of_it.map(|refused| format!("`{}`", refused.name.to_ascii_uppercase())).collect();
        let _infallible = writeln!(page, "* {}: {reason}.", names.join(" "));
    }
    page
}

fn name(command: &Command) -> String {
    command.name.replace('|', " ").to_ascii_uppercase()
}

fn mode(command: &Command) -> &'static str {
    match command.class {
        Class::Natural => "natural",
        Class::Promise => "promise",
        Class::Admin => "node",
        Class::Connection => "connection",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `KV_WRITE_DOCS=1` writes the page instead.
    #[test]
    fn the_page_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/REDIS.md");
        if std::env::var_os("KV_WRITE_DOCS").is_some() {
            std::fs::write(path, paper()).expect("the docs can be written");
        }
        let written = std::fs::read_to_string(path).expect("the page is there");
        assert!(written == paper(), "docs/REDIS.md is old: run this test with KV_WRITE_DOCS=1");
    }

    #[test]
    fn every_command_stands_on_it_once() {
        let page = paper();
        for command in SERVED {
            let row = format!("| `{}`", name(command));
            let rows = page.lines().filter(|line| {
                line.strip_prefix(&row).is_some_and(|rest| rest.starts_with([' ', '*']))
            });
            assert_eq!(rows.count(), 1, "{}", command.name);
        }
        for refused in REFUSED {
            assert!(page.contains(&format!("`{}`", refused.name.to_ascii_uppercase())));
        }
    }
}
