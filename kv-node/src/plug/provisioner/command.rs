//! An operator's program starts and ends nodes: kubectl, a cloud's command line, a script.
//!
//! It gets the request as one JSON object on its stdin, and says by its exit code whether it was
//! done; what it writes is kept up to a bound, and shown when it fails.
//!
//! ```text
//! {"version":1,"do":"add","request":"add-after-epoch-7","cluster":"kv",
//!  "seeds":["10.0.0.1:7101"],"nodes":3,"desired":4,"reason":"..."}
//! {"version":1,"do":"remove","request":"remove-00c0ffee00c0ffee", ...,
//!  "node":"00c0ffee00c0ffee","rpc":"10.0.0.4:7101","resp":"10.0.0.4:7001","zone":"a"}
//! ```
//! A program that runs longer than its limit is killed; what it started itself is its own affair.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::{Ask, Gone, ProvisionError, Provisioner};
use crate::plug::exec::{self, Exec};

/// Bytes of what a program says that are kept at most, of each stream.
const SAID_BYTES_MAX: u64 = 2_048;
/// A program that has ended is given so long for its last words to be read.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Rest between two looks at whether it has ended.
const LOOK: Duration = Duration::from_millis(10);

/// Runs a program for each request.
#[derive(Clone)]
pub struct CommandProvisioner {
    program: Vec<String>,
    ms_max: u64,
    exec: Arc<dyn Exec>,
}

impl std::fmt::Debug for CommandProvisioner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommandProvisioner").field("program", &self.program).finish_non_exhaustive()
    }
}

impl CommandProvisioner {
    /// The program with its first arguments, and the milliseconds after which it is killed.
    pub fn new(program: Vec<String>, ms_max: u64, exec: Arc<dyn Exec>) -> Self {
        Self { program, ms_max, exec }
    }

    async fn ask(&self, request: Map<String, Value>) -> Result<(), ProvisionError> {
        let (program, ms_max) = (self.program.clone(), self.ms_max);
        let input = format!("{}\n", Value::Object(request));
        let run = exec::blocking(&*self.exec, move || run(&program, input.as_bytes(), ms_max));
        let ended = || ProvisionError::NotStarted("this node is stopping".into());
        run.await.ok_or_else(ended)?
    }
}

fn object(what: &str, ask: &Ask) -> Map<String, Value> {
    let object = json!({
        "version": 1,
        "do": what,
        "request": ask.request,
        "cluster": ask.cluster,
        "seeds": ask.seeds,
        "nodes": ask.nodes,
        "desired": ask.desired,
        "reason": ask.reason,
    });
    if let Value::Object(object) = object { object } else { Map::new() }
}

#[async_trait]
impl Provisioner for CommandProvisioner {
    fn name(&self) -> &'static str {
        "command"
    }

    fn acts(&self) -> bool {
        true
    }

    async fn add(&self, ask: &Ask) -> Result<(), ProvisionError> {
        self.ask(object("add", ask)).await
    }

    async fn remove(&self, ask: &Ask, gone: &Gone) -> Result<(), ProvisionError> {
        let mut request = object("remove", ask);
        request.insert("node".into(), gone.node.to_string().into());
        for (key, value) in [("rpc", &gone.rpc), ("resp", &gone.resp), ("zone", &gone.zone)] {
            request.insert(key.into(), value.clone().into());
        }
        self.ask(request).await
    }
}

fn run(program: &[String], input: &[u8], ms_max: u64) -> Result<(), ProvisionError> {
    let Some((name, arguments)) = program.split_first() else {
        return Err(ProvisionError::NotStarted("autoscale.command is empty".into()));
    };
    let failed = |error: &io::Error| ProvisionError::NotStarted(format!("{name}: {error}"));
    let mut child = Command::new(name)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    // What fits a pipe is written at once, whether it is read or not; a program may end without.
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(input));
    if let Some(Err(error)) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        tracing::debug!(%error, "the program was not told all");
    }
    let said = [said(child.stderr.take()), said(child.stdout.take())];
    let ended = wait(&mut child, Duration::from_millis(ms_max));
    let said = words(&said);
    match ended.map_err(|error| failed(&error))? {
        None => Err(ProvisionError::TimedOut { ms_max, said }),
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(ProvisionError::Failed { code: status.code(), said }),
    }
}

/// Waits for a program's end; one that takes too long is killed.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<std::process::ExitStatus>> {
    let began = Instant::now();
    while began.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(LOOK);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// Reads a stream to its end on a thread of its own, and keeps its beginning.
fn said(stream: Option<impl Read + Send + 'static>) -> Option<Receiver<Vec<u8>>> {
    let mut stream = stream?;
    let (give, take) = sync_channel(1);
    let read = move || {
        let mut kept = Vec::new();
        let _cut = stream.by_ref().take(SAID_BYTES_MAX).read_to_end(&mut kept);
        let _heard = give.send(kept);
        // A program that says more must not wait for a reader.
        let _cut = io::copy(&mut stream, &mut io::sink());
    };
    thread::Builder::new().name("provision".into()).spawn(read).ok()?;
    Some(take)
}

/// What was said, in one line. A stream that something else holds open is not waited for.
fn words(said: &[Option<Receiver<Vec<u8>>>; 2]) -> String {
    let heard = said.iter().flatten().filter_map(|stream| {
        let bytes = match stream.recv_timeout(LAST_WORDS) {
            Ok(bytes) => bytes,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        };
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    });
    let all: Vec<String> = heard.collect();
    if all.is_empty() { "it said nothing".into() } else { all.join("; ") }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::plug::exec::TokioExec;
    use crate::plug::provisioner::contract;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("kv-node-provision-{}-{name}", std::process::id());
            let dir = std::env::temp_dir().join(name);
            fs::create_dir_all(&dir).expect("a directory");
            Self(dir)
        }

        fn files(&self) -> Vec<PathBuf> {
            let entries = fs::read_dir(&self.0).expect("it is there");
            let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            files.sort();
            files
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn shell(script: &str, ms_max: u64) -> CommandProvisioner {
        let program = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        CommandProvisioner::new(program, ms_max, Arc::new(TokioExec))
    }

    #[tokio::test]
    async fn a_program_keeps_the_contract_and_is_told_all_in_json() {
        let scratch = Scratch::new("contract");
        let dir = scratch.0.display();
        // One file for each request that adds, named by it.
        let script = format!(
            "read -r line; case \"$line\" in *'\"do\":\"add\"'*) name=${{line#*'\"request\":\"'}}; \
             printf '%s' \"$line\" > {dir}/${{name%%'\"'*}};; esac"
        );
        let program = shell(&script, 5_000);
        contract::suite(&program, || scratch.files().len()).await;
        let told = fs::read(&scratch.files()[0]).expect("a request");
        let told: Value = serde_json::from_slice(&told).expect("JSON");
        assert_eq!(told["request"], "add-1");
        assert_eq!((&told["nodes"], &told["desired"]), (&json!(3), &json!(4)));
        assert_eq!(told["cluster"], "contract \"quoted\"\n");
        assert_eq!(told["seeds"][1], "127.0.0.1:7102");
    }

    #[tokio::test]
    async fn failures_say_what_the_program_said() {
        let ask = Ask::default();
        let failed = shell("echo no quota >&2; exit 7", 5_000).add(&ask).await;
        let said = "no quota".to_owned();
        assert_eq!(failed, Err(ProvisionError::Failed { code: Some(7), said }));
        let slow = shell("echo starting; exec sleep 30", 100).add(&ask).await;
        let said = "starting".to_owned();
        assert_eq!(slow, Err(ProvisionError::TimedOut { ms_max: 100, said }));
        let loud = shell(
            "i=0; while [ $i -lt 9000 ]; do echo 0123456789; i=$((i+1)); done; exit 1",
            9_000,
        );
        let Err(ProvisionError::Failed { said, .. }) = loud.add(&ask).await else {
            panic!("it fails");
        };
        assert!(said.len() <= 2 * SAID_BYTES_MAX as usize, "{}", said.len());
        let missing = vec!["/nowhere/at-all".to_owned()];
        let missing = CommandProvisioner::new(missing, 100, Arc::new(TokioExec)).add(&ask).await;
        assert!(matches!(missing, Err(ProvisionError::NotStarted(_))), "{missing:?}");
        let none = CommandProvisioner::new(Vec::new(), 100, Arc::new(TokioExec)).add(&ask).await;
        assert!(matches!(none, Err(ProvisionError::NotStarted(_))), "{none:?}");
    }

    #[tokio::test]
    async fn a_program_that_never_reads_and_one_that_leaves_a_child_are_no_trouble() {
        let ask = Ask { reason: "x".repeat(60_000), ..Ask::default() };
        assert_eq!(shell("exit 0", 5_000).add(&ask).await, Ok(()));
        let began = Instant::now();
        assert_eq!(shell("sleep 5 & exit 0", 5_000).add(&ask).await, Ok(()));
        assert!(began.elapsed() < Duration::from_secs(3), "the child is not waited for");
    }
}
