//! `ls`, `env`, `exec`: which clusters there are, and how other programs find one.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::place::Place;
use super::state::State;
use super::status;
use crate::error::{Error, Result};
use crate::term;

/// Prints a line for each cluster of this checkout: `place` is any of them.
pub(super) fn list(place: &Place) {
    let clusters = place.dir().parent().map_or_else(Vec::new, clusters);
    if clusters.is_empty() {
        term::out("there is no cluster; `cargo xtask cluster up` makes one");
        return;
    }
    term::out("name        up    redis");
    for name in clusters {
        let told = State::load(&Place::at(place.dir().with_file_name(&name)));
        term::out(match told {
            Ok(Some(state)) => row(&name, &state),
            Ok(None) => continue,
            Err(error) => format!("{name:<11} {error}"),
        });
    }
}

/// Directories that have a state file, by name.
fn clusters(above: &Path) -> Vec<String> {
    let entries = fs::read_dir(above).into_iter().flatten().flatten();
    let is_one = |path: &Path| Place::at(path.to_path_buf()).state_file().exists();
    let mut names: Vec<String> = entries
        .filter(|entry| is_one(&entry.path()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn row(name: &str, state: &State) -> String {
    let up = format!("{}/{}", state.alive(), state.shape.nodes);
    let faults = if state.shape.faults { "  with faults" } else { "" };
    format!("{name:<11} {up:<5} {}{faults}", resp(state).replace(' ', ","))
}

/// Prints what a shell is to evaluate.
pub(super) fn env(place: &Place, name: &str) -> Result<()> {
    for (name, value) in variables(place, name)? {
        // A path may hold anything but what is quoted here.
        term::out(format_args!("export {name}='{}'", value.replace('\'', r"'\''")));
    }
    Ok(())
}

/// Becomes another program, which finds the cluster in its variables.
pub(super) fn exec(place: &Place, name: &str, line: &[OsString]) -> Result<()> {
    let [program, arguments @ ..] = line else {
        let text = "exec needs a command: `cargo xtask cluster exec -- kv status`";
        return Err(Error::Usage(text.into()));
    };
    let mut command = Command::new(program);
    command.args(arguments).envs(variables(place, name)?);
    let source = command.exec();
    Err(Error::Spawn { program: program.to_string_lossy().into_owned(), source })
}

fn variables(place: &Place, name: &str) -> Result<[(&'static str, String); 3]> {
    let Some(state) = State::load(place)? else { return Err(status::absent(place, name)) };
    let connect: Vec<String> =
        state.nodes().map(|(_, ports, _)| format!("127.0.0.1:{}", ports.rpc)).collect();
    Ok([
        ("KV_CONNECT", connect.join(",")),
        ("KV_SECRET_FILE", place.secret_file().display().to_string()),
        ("KV_PORTS", resp(&state)),
    ])
}

/// The nodes' Redis ports.
fn resp(state: &State) -> String {
    let ports: Vec<String> = state.nodes().map(|(_, ports, _)| ports.resp.to_string()).collect();
    ports.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Shape;
    use crate::cluster::tests::scratch;

    #[test]
    fn a_cluster_is_listed_and_told_to_other_programs() {
        let scratch = scratch("around");
        let above = scratch.0.dir();
        fs::create_dir_all(above).unwrap();
        assert_eq!(clusters(above), [""; 0]);
        let place = Place::at(above.join("it's"));
        let shape = Shape { faults: true, ..Shape::default() };
        let state = State::new(shape, "/kv-node".into());
        assert!(matches!(variables(&place, "it's"), Err(Error::Unreachable(_))));
        state.save(&place).unwrap();
        fs::create_dir_all(above.join("no-cluster")).unwrap();
        assert_eq!(clusters(above), ["it's"]);
        assert_eq!(row("it's", &state), "it's        0/3   7001,7002,7003  with faults");
        list(&place);
        let [connect, secret, ports] = variables(&place, "it's").unwrap();
        assert_eq!(connect.1, "127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103");
        assert!(secret.1.ends_with("it's/secret"), "{}", secret.1);
        assert_eq!(ports, ("KV_PORTS", "7001 7002 7003".to_owned()));
        env(&place, "it's").unwrap();
        assert_eq!(exec(&place, "it's", &[]).unwrap_err().exit_code(), 2);
        let missing = exec(&place, "it's", &["/no/such/program".into()]).unwrap_err();
        assert!(matches!(missing, Error::Spawn { .. }), "{missing}");
    }
}
