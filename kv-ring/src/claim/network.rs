//! Min-cost maximum flow on small whole numbers.
//!
//! Successive shortest paths, many at a time: Dijkstra on reduced costs finds the next distance
//! from source to sink (Edmonds and Karp 1972 for the potentials), then blocking flows (Dinic
//! 1970) use up every path of that distance before the next is looked for. Placement's costs are
//! few and small, so there are a handful of distances and a handful of blocking flows for each,
//! whatever the number of units. Invariant: after each round no residual arc has a negative reduced
//! cost, which is what makes the flow the cheapest of its size.

#![expect(
    clippy::indexing_slicing,
    reason = "vertices are below the number the network was made with, asserted in `arc`; arcs \
              and the index over them are made here"
)]

use alloc::collections::{BinaryHeap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

const UNREACHED: u32 = u32::MAX;

/// A network under construction, then its flow. Arc `2i + 1` is the reverse of arc `2i`.
pub(crate) struct Network {
    head: Vec<u32>,
    room: Vec<u32>,
    cost: Vec<i64>,
    /// Arcs by tail vertex, in order of insertion; `first[v]..first[v + 1]` are vertex `v`'s.
    arcs: Vec<u32>,
    first: Vec<u32>,
    potential: Vec<i64>,
    rank: Vec<u32>,
    cursor: Vec<u32>,
    vertices: usize,
}

impl Network {
    /// A network of so many vertices and no arcs.
    pub(crate) fn new(vertices: usize) -> Self {
        Self {
            head: Vec::new(),
            room: Vec::new(),
            cost: Vec::new(),
            arcs: Vec::new(),
            first: Vec::new(),
            potential: vec![0; vertices],
            rank: vec![UNREACHED; vertices],
            cursor: Vec::new(),
            vertices,
        }
    }

    /// Adds a vertex.
    pub(crate) fn vertex(&mut self) -> usize {
        self.potential.push(0);
        self.rank.push(UNREACHED);
        self.vertices += 1;
        self.vertices - 1
    }

    /// Adds an arc for at most `room` units at `cost` each; answers its number. Of equally cheap
    /// flows, the one over arcs that were added earlier is preferred.
    pub(crate) fn arc(&mut self, from: usize, to: usize, room: usize, cost: i64) -> usize {
        assert!(
            from < self.vertices && to < self.vertices,
            "both ends are vertices of this network"
        );
        let number = self.head.len();
        self.head.extend([to as u32, from as u32]);
        self.room.extend([room as u32, 0]);
        self.cost.extend([cost, -cost]);
        number
    }

    /// Whether all the room of an arc is used.
    pub(crate) fn is_full(&self, arc: usize) -> bool {
        self.room[arc] == 0
    }

    /// Sends all that fits from `source` to `sink` as cheaply as can be; answers how much.
    pub(crate) fn flow(&mut self, source: usize, sink: usize) -> usize {
        self.index();
        let mut sent = 0;
        while self.reprice(source, sink) {
            while self.rank(source, sink) {
                sent += self.block(source, sink);
            }
        }
        sent
    }

    fn index(&mut self) {
        self.first = vec![0; self.vertices + 1];
        for arc in 0..self.head.len() {
            self.first[self.head[arc ^ 1] as usize + 1] += 1;
        }
        for vertex in 0..self.vertices {
            self.first[vertex + 1] += self.first[vertex];
        }
        let mut next = self.first.clone();
        self.arcs = vec![0; self.head.len()];
        for arc in 0..self.head.len() {
            let slot = &mut next[self.head[arc ^ 1] as usize];
            self.arcs[*slot as usize] = arc as u32;
            *slot += 1;
        }
    }

    fn reduced(&self, arc: usize, from: usize, to: usize) -> i64 {
        self.cost[arc] + self.potential[from] - self.potential[to]
    }

    /// Dijkstra: raises the potentials so that arcs on shortest paths have reduced cost 0. False
    /// when the sink can't be reached any more.
    fn reprice(&mut self, source: usize, sink: usize) -> bool {
        let mut distance = vec![i64::MAX; self.vertices];
        let mut heap = BinaryHeap::from([Reverse((0, source as u32))]);
        distance[source] = 0;
        while let Some(Reverse((near, vertex))) = heap.pop() {
            let from = vertex as usize;
            if near > distance[from] {
                continue;
            }
            if from == sink {
                break;
            }
            for slot in self.first[from]..self.first[from + 1] {
                let arc = self.arcs[slot as usize] as usize;
                let to = self.head[arc] as usize;
                if self.room[arc] == 0 {
                    continue;
                }
                let far = near + self.reduced(arc, from, to);
                if far < distance[to] {
                    distance[to] = far;
                    heap.push(Reverse((far, to as u32)));
                }
            }
        }
        let limit = distance[sink];
        if limit == i64::MAX {
            return false;
        }
        for (potential, near) in self.potential.iter_mut().zip(distance) {
            *potential += near.min(limit);
        }
        true
    }

    /// Breadth-first over arcs of reduced cost 0: the fewest arcs from the source to each vertex.
    fn rank(&mut self, source: usize, sink: usize) -> bool {
        self.rank.fill(UNREACHED);
        self.rank[source] = 0;
        let mut queue = VecDeque::from([source]);
        while let Some(from) = queue.pop_front() {
            for slot in self.first[from]..self.first[from + 1] {
                let arc = self.arcs[slot as usize] as usize;
                let to = self.head[arc] as usize;
                let usable = self.room[arc] > 0 && self.rank[to] == UNREACHED;
                if usable && self.reduced(arc, from, to) == 0 {
                    self.rank[to] = self.rank[from] + 1;
                    if to == sink {
                        return true;
                    }
                    queue.push_back(to);
                }
            }
        }
        false
    }

    /// A blocking flow over arcs of reduced cost 0 that go one rank up.
    fn block(&mut self, source: usize, sink: usize) -> usize {
        self.cursor.clear();
        self.cursor.extend_from_slice(&self.first[..self.vertices]);
        let mut path: Vec<usize> = Vec::new();
        let mut at = source;
        let mut sent = 0;
        loop {
            if at == sink {
                let (amount, cut) = self.send(&path);
                sent += amount;
                at = self.head[path[cut] ^ 1] as usize;
                path.truncate(cut);
            } else if let Some(arc) = self.step(at) {
                path.push(arc);
                at = self.head[arc] as usize;
            } else {
                self.rank[at] = UNREACHED;
                let Some(arc) = path.pop() else { return sent };
                at = self.head[arc ^ 1] as usize;
            }
        }
    }

    /// The next arc to try from a vertex.
    fn step(&mut self, from: usize) -> Option<usize> {
        while self.cursor[from] < self.first[from + 1] {
            let arc = self.arcs[self.cursor[from] as usize] as usize;
            let to = self.head[arc] as usize;
            let up = self.room[arc] > 0 && self.rank[to] == self.rank[from] + 1;
            if up && self.reduced(arc, from, to) == 0 {
                return Some(arc);
            }
            self.cursor[from] += 1;
        }
        None
    }

    /// Sends what fits along a path; answers how much, and where its first full arc is.
    fn send(&mut self, path: &[usize]) -> (usize, usize) {
        let amount = path.iter().map(|&arc| self.room[arc]).min().unwrap_or(0);
        for &arc in path {
            self.room[arc] -= amount;
            self.room[arc ^ 1] += amount;
        }
        let cut = path.iter().position(|&arc| self.room[arc] == 0).unwrap_or(0);
        (amount as usize, cut)
    }
}
