//! Pictures of the terminal for the README, made of the models that the frames are tested with.
//!
//! `cargo xtask shots` writes them; the ordinary tests fail where one is not what it would write.

use std::fs;
use std::path::{Path, PathBuf};

use crate::app::{App, Message, Pressed, Tab, update};
use crate::fixture::{Standing, app};
use crate::view;

/// Set by `cargo xtask shots`.
const WRITE: &str = "KV_SHOTS_WRITE";

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/shots")
}

/// Every tab of a cluster of five with a node down, in colour.
fn shots() -> Vec<(String, App)> {
    let shot = |tab: Tab| {
        let mut app = App { tab, ..app(Standing::Degraded) };
        app.options.plain = false;
        if tab == Tab::Conflicts {
            // With what would be written.
            drop(update(&mut app, Message::Key(Pressed::char('m'))));
        }
        (tab.names().0.to_lowercase(), app)
    };
    Tab::ALL.map(shot).into()
}

#[test]
fn the_readmes_pictures_are_those_of_this_code() {
    let write = std::env::var_os(WRITE).is_some();
    for (name, app) in shots() {
        let path = directory().join(format!("{name}.svg"));
        let picture = view::picture(&app, 120, 40);
        if write {
            fs::create_dir_all(directory()).expect("a directory");
            fs::write(&path, picture).expect("written");
            continue;
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == picture, "{name}.svg is another: run `cargo xtask shots`");
    }
}
