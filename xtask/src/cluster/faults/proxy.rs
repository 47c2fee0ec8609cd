//! The proxy process: one listener for each node, one pair of pipes for each connection.
//!
//! It learns what links do, and how many nodes there are, from the cluster's files, which it looks
//! at every few milliseconds, and ends when its directory is gone. A node that is down refuses, as
//! far as a proxy can show it: the connection is closed at once.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use super::model::{Fault, Faults};
use super::pipe::{Link, carry};
use super::{PROXY_DIR, load, source};
use crate::cluster::place::{Place, Ports};
use crate::cluster::state::State;
use crate::error::{Error, Result};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Connections at once at most; further ones are closed.
const CONNECTIONS_MAX: usize = 4_096;
/// Nodes are on this machine.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// What all of the proxy's threads share.
struct Shared {
    faults: Mutex<Faults>,
    connections: AtomicUsize,
    base_port: u16,
}

/// Serves until the cluster's directory is gone.
pub(crate) fn run(named: &Place) -> Result<()> {
    let place =
        std::env::var_os(PROXY_DIR).map_or_else(|| named.clone(), |dir| Place::at(dir.into()));
    let mut shared: Option<Arc<Shared>> = None;
    let mut listening = 0;
    while place.dir().exists() {
        let state = State::load(&place).ok().flatten();
        if let (Some(state), Ok(faults)) = (state, load(&place)) {
            let base_port = state.shape.base_port;
            let shared = shared.get_or_insert_with(|| {
                let (faults, connections) = (Mutex::default(), AtomicUsize::new(0));
                Arc::new(Shared { faults, connections, base_port })
            });
            while listening < state.shape.nodes {
                listen(shared, listening + 1)?;
                listening += 1;
            }
            obey(&place, shared, faults)?;
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// From now on links do this; whoever waits for it is told.
fn obey(place: &Place, shared: &Shared, faults: Faults) -> Result<()> {
    let generation = faults.generation;
    let mut now = shared.faults.lock().unwrap_or_else(PoisonError::into_inner);
    let told = place.obeyed_file();
    if *now == faults && told.exists() {
        return Ok(());
    }
    *now = faults;
    drop(now);
    match fs::write(&told, generation.to_string()) {
        Err(_) if !place.dir().exists() => Ok(()),
        written => written.map_err(Error::io(&told)),
    }
}

fn listen(shared: &Arc<Shared>, node: u16) -> Result<()> {
    let port = Ports::of(shared.base_port, node).proxy;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .map_err(|error| Error::Failed(format!("port {port} can't be listened on: {error}")))?;
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                thread::sleep(LOOK);
                continue;
            };
            let shared = Arc::clone(&shared);
            if shared.connections.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
                shared.connections.fetch_sub(1, Ordering::AcqRel);
                continue;
            }
            thread::spawn(move || {
                // A node that is down, or a connection that broke: its ends see it.
                drop(attend(&shared, stream, node));
                shared.connections.fetch_sub(1, Ordering::AcqRel);
            });
        }
    });
    Ok(())
}

/// One connection to `node`, from its first byte to its last.
fn attend(shared: &Arc<Shared>, near: TcpStream, node: u16) -> io::Result<()> {
    let from = caller(near.peer_addr()?.ip());
    let link: Link = {
        let shared = Arc::clone(shared);
        Arc::new(move || {
            let faults = shared.faults.lock().unwrap_or_else(PoisonError::into_inner);
            from.map_or_else(Fault::default, |from| faults.of(from, node))
        })
    };
    // The system accepted it; the node hears of it when the link is whole.
    near.set_nonblocking(true)?;
    while link().cut_there {
        if matches!(near.peek(&mut [0]), Ok(0)) {
            return Ok(());
        }
        thread::sleep(LOOK);
    }
    near.set_nonblocking(false)?;
    let port = Ports::of(shared.base_port, node).rpc;
    let far = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), CONNECT_LIMIT)?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ended = Arc::new(AtomicU8::new(0));
    let seed = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos() as u64;
    let back = {
        let (far, near) = (far.try_clone()?, near.try_clone()?);
        let (there, ended) = (Arc::clone(&link), Arc::clone(&ended));
        let link: Link = Arc::new(move || there().turned());
        thread::spawn(move || carry(far, near, &link, &ended, seed.rotate_left(32)))
    };
    carry(near, far, &link, &ended, seed);
    drop(back.join());
    Ok(())
}

/// Which node dials from there; nobody does from a client's address.
fn caller(address: IpAddr) -> Option<u16> {
    let IpAddr::V4(address) = address else { return None };
    let [_, _, high, low] = address.octets();
    let node = u16::from_be_bytes([high, low]).checked_sub(10).filter(|node| *node > 0)?;
    (source(node) == address).then_some(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_known_by_where_they_dial_from_and_clients_are_nobody() {
        for node in [1, 2, 99, 300] {
            assert_eq!(caller(source(node).into()), Some(node));
        }
        assert_eq!(caller(Ipv4Addr::LOCALHOST.into()), None);
        assert_eq!(caller(Ipv4Addr::new(127, 0, 0, 10).into()), None);
    }
}
