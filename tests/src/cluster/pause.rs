//! Processes that are stopped and go on later, as a machine does that swaps or migrates.

use std::io;

use super::Cluster;

impl Cluster {
    /// Stops a node's process where it is (SIGSTOP): its sockets stay open and say nothing.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&self, place: usize) -> io::Result<()> {
        self.signal(place, "-STOP")
    }

    /// Lets a stopped node go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&self, place: usize) -> io::Result<()> {
        self.signal(place, "-CONT")
    }

    fn signal(&self, place: usize, signal: &str) -> io::Result<()> {
        let process = self.nodes.get(place).and_then(|node| node.process.as_ref());
        let process = process.ok_or_else(|| io::Error::other("the node does not run"))?;
        super::links::run("kill", [signal, &process.id().to_string()])
    }
}
