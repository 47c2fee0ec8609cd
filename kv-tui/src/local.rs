//! The program that runs a local cluster, called for what a person does to its nodes.
//!
//! It is a child of its own group, which reads nothing and whose words are kept only to be shown if
//! it fails. A terminal that ends leaves it to finish.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::app::LocalVerb;

/// Stands for the verb and the node among a program's arguments.
const PLACE: &str = "{}";
/// It may take so long: a node is drained, ended, started and waited for.
const PATIENCE: Duration = Duration::from_mins(3);
/// Bytes of its words that are read at most.
const SAID_BYTES_MAX: u64 = 16_384;

/// The program, and its arguments.
#[derive(Clone, Debug, Default)]
pub(crate) struct LocalProgram(pub(crate) Vec<OsString>);

impl LocalProgram {
    /// Does it, and waits for the end.
    ///
    /// # Errors
    /// What the program said, for people: something may have been done nevertheless.
    pub(crate) async fn act(&self, verb: LocalVerb, node: Option<u16>) -> Result<(), String> {
        let mut command = self.command(&verb.words(node)).ok_or("there is no such program")?;
        let (tell, told) = oneshot::channel();
        // A thread that nobody waits for: leaving the terminal must not take as long as it.
        let run = move || drop(tell.send(run(&mut command)));
        thread::Builder::new()
            .name("local".into())
            .spawn(run)
            .map_err(|error| format!("not begun: {error}"))?;
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(Ok(out)) => out,
            Ok(Err(_)) => Err("the program's end was not heard of".to_owned()),
            Err(_) => Err(format!("not ended after {} s; it goes on", PATIENCE.as_secs())),
        }
    }

    /// The words stand where the arguments have their place, else after them.
    fn command(&self, words: &[String]) -> Option<Command> {
        let (program, arguments) = self.0.split_first()?;
        let mut command = Command::new(program);
        for argument in arguments {
            if argument == PLACE {
                command.args(words);
            } else {
                command.arg(argument);
            }
        }
        if !arguments.iter().any(|argument| argument == PLACE) {
            command.args(words);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // What stops or ends the terminal's job is not meant for it.
        command.process_group(0);
        Some(command)
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let not_begun = |error: io::Error| format!("{program} could not be started: {error}");
    let mut child = command.spawn().map_err(not_begun)?;
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _gone = stderr.take(SAID_BYTES_MAX).read_to_end(&mut said);
    }
    let status = child.wait().map_err(|error| format!("its end was not heard of: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    Err(format!("{last} ({status})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, more: &[&str]) -> LocalProgram {
        let words = ["sh", "-c", script, "sh"].into_iter().chain(more.iter().copied());
        LocalProgram(words.map(OsString::from).collect())
    }

    #[tokio::test]
    async fn the_words_stand_in_their_place() {
        let program = shell(r#"test "$*" = "kill 3 -9 --name x""#, &["{}", "--name", "x"]);
        assert_eq!(program.act(LocalVerb::Kill, Some(3)).await, Ok(()));
        assert!(program.act(LocalVerb::Kill, Some(2)).await.is_err());
        let last = shell(r#"test "$*" = "--name x partition 3""#, &["--name", "x"]);
        assert_eq!(last.act(LocalVerb::Cut, Some(3)).await, Ok(()));
        let all = shell(r#"test "$*" = heal"#, &["{}"]);
        assert_eq!(all.act(LocalVerb::Heal, None).await, Ok(()));
    }

    #[tokio::test]
    async fn a_failure_is_told_with_the_programs_last_words() {
        let program = shell("echo one >&2; echo 'n3 is not running' >&2; echo >&2; exit 7", &[]);
        let why = program.act(LocalVerb::Pause, Some(3)).await.expect_err("it fails");
        assert!(why.starts_with("n3 is not running (") && why.contains('7'), "{why}");
        // More words than are kept end it, and do not hold it.
        let endless = shell("yes >&2", &[]);
        assert!(endless.act(LocalVerb::Pause, Some(3)).await.is_err());
        let nothing = LocalProgram(vec!["/nowhere/to/be/found".into()]);
        let why = nothing.act(LocalVerb::Pause, Some(3)).await.expect_err("there is none");
        assert!(why.contains("could not be started"), "{why}");
        assert!(LocalProgram::default().act(LocalVerb::Pause, Some(3)).await.is_err());
    }
}
