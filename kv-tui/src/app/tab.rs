//! The tabs: their order, names and digits.

/// A tab.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tab {
    /// Who owns what.
    #[default]
    Ring,
    /// Who is there.
    Nodes,
    /// One key, replica by replica.
    Keys,
    /// Keys with siblings.
    Conflicts,
    /// Hints and anti-entropy.
    Repair,
    /// What happened.
    Events,
    /// Whether there is enough of everything.
    Scale,
}

impl Tab {
    /// All tabs, in order.
    pub const ALL: [Self; 7] = [
        Self::Ring,
        Self::Nodes,
        Self::Keys,
        Self::Conflicts,
        Self::Repair,
        Self::Events,
        Self::Scale,
    ];

    /// Its name, and a shorter one.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Ring => ("Ring", "Ring"),
            Self::Nodes => ("Nodes", "Node"),
            Self::Keys => ("Keys", "Keys"),
            Self::Conflicts => ("Conflicts", "Conf"),
            Self::Repair => ("Repair", "Rep"),
            Self::Events => ("Events", "Evt"),
            Self::Scale => ("Scale", "Scl"),
        }
    }

    /// The digit that opens it.
    pub fn digit(self) -> usize {
        Self::ALL.iter().position(|tab| *tab == self).unwrap_or(0) + 1
    }

    /// The tab `by` places further, around the end.
    #[must_use]
    pub fn step(self, by: isize) -> Self {
        let count = Self::ALL.len() as isize;
        let at = (self.digit() as isize - 1 + by).rem_euclid(count);
        Self::ALL.get(at.unsigned_abs()).copied().unwrap_or_default()
    }
}
