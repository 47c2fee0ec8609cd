//! The limit of open files: raised as far as this process may, and clients held below it.
//!
//! Each connection is an open file, and so is each table. If clients could take all that there are,
//! the next segment of the log could not be opened, and the node would stop writing. So clients get
//! half, as many as are configured at most (Redis lowers `maxclients` likewise).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one and answers how many clients there may be, of
/// `configured`.
pub(super) fn clients_max(configured: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { maximum } else { current };
    share_of(limit, configured)
}

/// What clients get of `limit` files; none is no limit.
fn share_of(limit: Option<u64>, configured: usize) -> usize {
    let share = limit.map_or(usize::MAX, |limit| usize::try_from(limit / 2).unwrap_or(usize::MAX));
    configured.min(share.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_never_get_more_than_half_of_the_files() {
        assert_eq!(share_of(Some(1_024), 10_000), 512);
        assert_eq!(share_of(Some(1_048_576), 10_000), 10_000);
        assert_eq!(share_of(None, 10_000), 10_000);
        assert_eq!(share_of(Some(0), 10_000), 1);
    }
}
