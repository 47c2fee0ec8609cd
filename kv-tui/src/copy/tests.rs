//! Copies between servers, nodes and files in memory, ended and gone on with.

use std::path::Path;
use std::time::Duration;

use kv_client::wire::{ReadOptions, WriteOptions};
use kv_client::{Client, Config, MemoryNode, Secret};

use super::*;
use crate::resp::Target;
use crate::resp::fake::{Fake, Held};

const LIMITS: Limits = Limits {
    wait: Duration::from_secs(5),
    patience: Duration::from_millis(300),
    page_keys: 10,
    value_bytes_max: 100,
};

/// A place of its own for each test's files.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kv-tui-{}-{name}", std::process::id()));
        let _absent = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("made");
        Self(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

async fn server(fake: &Fake) -> Server {
    let target = Target::parse(&fake.address, None).expect("an address");
    Server::open(target, LIMITS).await.expect("it is there")
}

async fn client(node: &MemoryNode) -> Client {
    Client::connect(&[node.address()], Config::default()).await.expect("it is there")
}

fn cluster(client: Client, keys: Option<Server>) -> Cluster {
    let options = Options {
        read: ReadOptions::default(),
        write: WriteOptions::default(),
        patience: Duration::ZERO,
    };
    Cluster::new(client, options, keys)
}

async fn copy(source: Source, sink: Sink, path: &Path) -> Result<Counts, Error> {
    let checkpoint = Checkpoint::load(path).expect("read");
    let checkpoint =
        checkpoint.unwrap_or_else(|| Checkpoint::new("a".into(), "b".into(), "c".into()));
    let refused = RefusedList::open(path, checkpoint.refused_bytes).expect("opened");
    let path = path.to_owned();
    let progress = &mut |_, _: &Counts| {};
    let keys_per_s_max = None;
    CopyJob { source, sink, checkpoint, path, refused, keys_per_s_max, progress }.run().await
}

#[tokio::test]
async fn strings_come_over_with_their_expiry_and_the_rest_is_listed() {
    let (fake, node) = (Fake::start().await, MemoryNode::start(Secret::default()).await.unwrap());
    let scratch = Scratch::new("over");
    for number in 0..95 {
        let ttl_ms = if number % 2 == 0 { 60_000 } else { -1 };
        fake.set(&format!("k{number}"), &format!("v{number}"), ttl_ms);
    }
    fake.set("expired", "x", 0);
    fake.set("long", &"x".repeat(101), -1);
    for (key, kind) in [("l", "list"), ("h", "hash"), ("h2", "hash")] {
        fake.with(|data| data.keys.insert(key.into(), Held::Other(kind)));
    }
    let client = client(&node).await;
    let path = scratch.at("c");
    let (source, sink) = (Source::Server(server(&fake).await), cluster(client.clone(), None));
    let counts = copy(source, Sink::Cluster(sink), &path).await.expect("copied");
    let refused = [("hash", 2), ("list", 1), ("too large", 1)];
    let refused = refused.map(|(kind, count)| (kind.to_owned(), count)).into();
    let wanted =
        Counts { scanned: 100, stored: 95, gone: 1, refused, verified: 95, ..Counts::default() };
    assert_eq!(counts, wanted);
    let seen = client.get("k8").await.expect("read");
    let now_ms = unix_ms();
    let at = seen.siblings()[0].expires_at_ms.expect("it expires");
    assert!(at > now_ms + 50_000 && at <= now_ms + 60_000, "{at} {now_ms}");
    assert_eq!(seen.only().map(|value| &value[..]), Some(&b"v8"[..]));
    assert_eq!(client.get("k9").await.expect("read").siblings()[0].expires_at_ms, None);
    let list = std::fs::read_to_string(scratch.at("c.refused")).expect("a list");
    assert!(list.contains(r#"{"key":"l","kind":"list","why":"a list is no string"}"#), "{list}");
    assert_eq!(list.lines().count(), 4);
    assert!(!path.exists(), "the checkpoint is gone");
}

#[tokio::test]
async fn a_copy_that_was_ended_goes_on_and_not_with_another_process() {
    let (fake, node) = (Fake::start().await, MemoryNode::start(Secret::default()).await.unwrap());
    let scratch = Scratch::new("on");
    (0..100).for_each(|number| fake.set(&format!("k{number:02}"), "v", -1));
    let path = scratch.at("c");
    let client = client(&node).await;
    let run = async || {
        let (source, sink) = (Source::Server(server(&fake).await), cluster(client.clone(), None));
        copy(source, Sink::Cluster(sink), &path).await
    };
    fake.with(|data| data.lives_for = Some(120));
    run().await.expect_err("the server went away");
    fake.with(|data| (data.lives_for, data.commands) = (None, 0));
    let before = Checkpoint::load(&path).expect("read").expect("kept").counts;
    assert!(before.stored > 0 && before.stored < 100, "{before:?}");
    let counts = run().await.expect("copied");
    assert_eq!((counts.scanned, counts.stored, counts.verified), (100, 100, 100));
    // A cursor of one process means nothing to the next.
    let mut started_anew = server(&fake).await;
    fake.with(|data| (data.lives_for, data.run_id) = (Some(0), "second".to_owned()));
    let revive = async {
        sleep(Duration::from_millis(50)).await;
        fake.with(|data| data.lives_for = None);
    };
    let (page, ()) = tokio::join!(started_anew.page("10"), revive);
    assert!(page.expect_err("another process").to_string().contains("started anew"));
}

#[tokio::test]
async fn a_copy_that_was_ended_after_its_last_page_counts_that_once() {
    let (fake, node) = (Fake::start().await, MemoryNode::start(Secret::default()).await.unwrap());
    let scratch = Scratch::new("last");
    (0..25).for_each(|number| fake.set(&format!("k{number:02}"), "v", -1));
    let (client, path) = (client(&node).await, scratch.at("c"));
    let ends = async || {
        (Source::Server(server(&fake).await), Sink::Cluster(cluster(client.clone(), None)))
    };
    let (source, sink) = ends().await;
    // As by ctrl-c, when the third and last page is copied.
    let (sender, ended) = tokio::sync::oneshot::channel::<()>();
    let (mut pages, mut sender) = (0, Some(sender));
    let job = CopyJob {
        source,
        sink,
        checkpoint: Checkpoint::new("a".into(), "b".into(), "c".into()),
        path: path.clone(),
        refused: RefusedList::open(&path, 0).expect("opened"),
        keys_per_s_max: None,
        progress: &mut |_, _| {
            pages += 1;
            drop(sender.take_if(|_| pages == 3));
        },
    };
    tokio::select! {
        biased;
        _closed = ended => {}
        done = job.run() => panic!("it was to be ended: {done:?}"),
    }
    let kept = Checkpoint::load(&path).expect("read").expect("kept");
    assert_eq!((kept.phase, kept.counts.stored), (Phase::Verify, 25));
    let (source, sink) = ends().await;
    let counts = copy(source, sink, &path).await.expect("copied");
    assert_eq!((counts.scanned, counts.stored, counts.verified), (25, 25, 25));
}

#[tokio::test]
async fn a_file_that_was_ended_before_its_last_line_has_no_key_twice() {
    let (fake, node) = (Fake::start().await, MemoryNode::start(Secret::default()).await.unwrap());
    let scratch = Scratch::new("tail");
    let (client, file, path) = (client(&node).await, scratch.at("export"), scratch.at("c"));
    client.blind_put("k", "v").await.expect("put");
    fake.set("k", "", -1);
    let mut source = Source::Cluster(cluster(client, Some(server(&fake).await)));
    let mut writer = Writer::begin(&file, "a test", 0).expect("begun");
    writer.write(&source.page("0").await.expect("a page").entries).expect("written");
    let written = writer.settle().expect("durable");
    let mut checkpoint = Checkpoint::new("a".into(), "b".into(), "c".into());
    (checkpoint.phase, checkpoint.counts.stored) = (Phase::Verify, 1);
    checkpoint.save(&path).expect("saved");
    let writer = Writer::resume(&file, written).expect("resumed");
    let counts = copy(source, Sink::File(writer), &path).await.expect("copied");
    assert_eq!((counts.stored, counts.verified), (1, 1));
    let page = Reader::open(&file).expect("whole").page("0", 10).expect("a page");
    assert_eq!(page.entries.len(), 1);
}

#[tokio::test]
async fn the_second_walk_mends_what_differs() {
    let (fake, node) = (Fake::start().await, MemoryNode::start(Secret::default()).await.unwrap());
    let scratch = Scratch::new("mends");
    (0..30).for_each(|number| fake.set(&format!("k{number:02}"), "v", -1));
    let client = client(&node).await;
    let path = scratch.at("c");
    // As if the first walk had ended before these were written at the source.
    let (source, sink) = (Source::Server(server(&fake).await), cluster(client.clone(), None));
    copy(source, Sink::Cluster(sink), &path).await.expect("copied");
    fake.set("k07", "newer", -1);
    fake.set("k08", "v", 60_000);
    client.blind_delete("k09").await.expect("deleted");
    let mut second = Checkpoint::new("a".into(), "b".into(), "c".into());
    second.phase = Phase::Verify;
    second.save(&path).expect("saved");
    let (source, sink) = (Source::Server(server(&fake).await), cluster(client.clone(), None));
    let counts = copy(source, Sink::Cluster(sink), &path).await.expect("copied");
    assert_eq!((counts.verified, counts.mended, counts.differing), (30, 3, 0));
    assert_eq!(client.get("k07").await.expect("read").only().map(|v| &v[..]), Some(&b"newer"[..]));
    assert!(client.get("k08").await.expect("read").siblings()[0].expires_at_ms.is_some());
}

#[tokio::test]
async fn siblings_go_through_a_file_and_a_server_gets_what_a_get_shows() {
    let from = MemoryNode::start(Secret::default()).await.unwrap();
    let to = MemoryNode::start(Secret::default()).await.unwrap();
    let (names, fake) = (Fake::start().await, Fake::start().await);
    let scratch = Scratch::new("file");
    let source = client(&from).await;
    for number in 0..25 {
        let key = format!("k{number:02}");
        source.blind_put(key.clone(), "one").await.expect("put");
        names.set(&key, "", -1);
    }
    source.add_sibling("k03", "two").await.expect("added");
    let told = async || Source::Cluster(cluster(source.clone(), Some(server(&names).await)));
    let (file, path) = (scratch.at("export.jsonl"), scratch.at("c"));
    let writer = Writer::begin(&file, "a test", 0).expect("begun");
    let counts = copy(told().await, Sink::File(writer), &path).await.expect("copied");
    assert_eq!((counts.stored, counts.verified), (25, 25));
    let reader = Source::File(Reader::open(&file).expect("whole"), 10);
    let sink = client(&to).await;
    let counts =
        copy(reader, Sink::Cluster(cluster(sink.clone(), None)), &path).await.expect("copied");
    assert_eq!((counts.stored, counts.verified, counts.mended), (25, 25, 0));
    let seen = sink.get("k03").await.expect("read");
    assert_eq!(seen.values().map(|value| &value[..]).collect::<Vec<_>>(), [b"two", b"one"]);
    let counts = copy(told().await, Sink::Server(server(&fake).await), &path).await.expect("done");
    assert_eq!((counts.stored, counts.verified), (25, 25));
    let two = Held::Text("two".into(), -1);
    assert_eq!(fake.with(|data| data.keys.get(&b"k03"[..]).cloned()), Some(two));
}
