//! The commands that are typed after `:`.

use super::{LocalVerb, Tab};

/// A command.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// What is typed; the first counts, the others are short for it.
    pub words: &'static [&'static str],
    /// What follows it, if anything must.
    pub argument: &'static str,
    /// What it does.
    pub what: &'static str,
    pub(super) does: Does,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    Open(Tab),
    Look,
    Rule,
    RepairPartition,
    RepairKey,
    Partition,
    Join,
    Leave,
    Local(LocalVerb),
    Undo,
    Help,
    Quit,
}

const fn command(
    words: &'static [&'static str],
    argument: &'static str,
    what: &'static str,
    does: Does,
) -> Command {
    Command { words, argument, what, does }
}

const fn local(verb: LocalVerb) -> Does {
    Does::Local(verb)
}

/// Every command.
pub const COMMANDS: &[Command] = &[
    command(&["ring", "r"], "", "open the ring", Does::Open(Tab::Ring)),
    command(&["nodes", "n"], "", "open the nodes", Does::Open(Tab::Nodes)),
    command(&["keys"], "", "open the key that was looked up", Does::Open(Tab::Keys)),
    command(&["conflicts", "c"], "", "open the keys with siblings", Does::Open(Tab::Conflicts)),
    command(&["repair"], "", "open hints and anti-entropy", Does::Open(Tab::Repair)),
    command(&["events", "e"], "", "open what happened", Does::Open(Tab::Events)),
    command(&["scale", "s"], "", "open whether there is enough", Does::Open(Tab::Scale)),
    command(&["key", "get", "k"], "KEY", "look a key up; hex:00ff for bytes", Does::Look),
    command(&["partition", "p"], "NUMBER", "select a partition", Does::Partition),
    command(
        &["resolve", "rule"],
        "latest|union|max|merge|delete|N",
        "make a value of the siblings, shown before it is sent",
        Does::Rule,
    ),
    command(&["undo"], "", "put back what the last write replaced", Does::Undo),
    command(
        &["repair-partition"],
        "NUMBER",
        "compare a partition's replicas, mend them",
        Does::RepairPartition,
    ),
    command(&["repair-key"], "KEY", "compare a key's replicas, mend them", Does::RepairKey),
    command(&["join"], "NODE", "plan that an empty node joins; shown before C does it", Does::Join),
    command(&["leave"], "NODE", "plan that a member leaves; shown before C does it", Does::Leave),
    command(&["kill"], "NODE", "kill a node of a local cluster (-9)", local(LocalVerb::Kill)),
    command(&["start"], "NODE", "start it on what it left", local(LocalVerb::Start)),
    command(&["restart"], "NODE", "drain it, end it, start it", local(LocalVerb::Restart)),
    command(&["pause"], "NODE", "stop its time", local(LocalVerb::Pause)),
    command(&["resume"], "NODE", "let its time go on", local(LocalVerb::Resume)),
    command(&["cut"], "NODE", "cut its links to the others", local(LocalVerb::Cut)),
    command(&["heal"], "[NODE]", "make its links whole, or all", local(LocalVerb::Heal)),
    command(&["help", "?"], "", "show the keys", Does::Help),
    command(&["quit", "q"], "", "leave", Does::Quit),
];

/// The commands that a beginning may become.
pub fn matching(typed: &str) -> Vec<&'static Command> {
    let word = typed.split_whitespace().next().unwrap_or_default();
    let begins = |command: &&Command| command.words.iter().any(|of| of.starts_with(word));
    COMMANDS.iter().filter(begins).collect()
}

/// The command that was typed, and what follows it: a whole word first, else the only one, or the
/// first, that begins so.
pub(super) fn parse(typed: &str) -> Option<(Does, &str)> {
    let typed = typed.trim_start();
    let (word, rest) = typed.split_once(char::is_whitespace).unwrap_or((typed, ""));
    if word.is_empty() {
        return None;
    }
    let whole = COMMANDS.iter().find(|command| command.words.contains(&word));
    let command = whole.or_else(|| matching(word).first().copied())?;
    Some((command.does, rest.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_by_word_alias_and_beginning() {
        assert_eq!(parse("q"), Some((Does::Quit, "")));
        assert_eq!(parse("key user:42 x"), Some((Does::Look, "user:42 x")));
        assert_eq!(parse("conf"), Some((Does::Open(Tab::Conflicts), "")));
        assert_eq!(parse("repair"), Some((Does::Open(Tab::Repair), "")));
        assert_eq!(parse("repair-k a"), Some((Does::RepairKey, "a")));
        assert_eq!(parse("kill n2"), Some((Does::Local(LocalVerb::Kill), "n2")));
        assert_eq!(parse("p 2"), Some((Does::Partition, "2")));
        assert_eq!(parse("  "), None);
        assert_eq!(parse("dance"), None);
        assert_eq!(matching("").len(), COMMANDS.len());
    }

    #[test]
    fn no_word_means_two_commands() {
        let mut words: Vec<&str> =
            COMMANDS.iter().flat_map(|command| command.words).copied().collect();
        words.sort_unstable();
        let count = words.len();
        words.dedup();
        assert_eq!(words.len(), count);
    }
}
