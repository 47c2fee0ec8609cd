//! Runs against a server in memory.

use std::time::{Duration, Instant};

use super::workload::tests::plan;
use super::*;
use crate::resp::fake::Fake;

async fn measured(fake: &Fake, workload: Workload, change: impl FnOnce(&mut Plan)) -> Report {
    let mut plan = plan(workload);
    plan.targets = vec![Target::parse(&fake.address, None).expect("an address")];
    change(&mut plan);
    load(&plan, |_| {}).await.expect("loaded");
    run(plan, "fake".to_owned(), |_| {}).await.expect("measured")
}

fn slower_than(report: &Report, us: u64) -> u64 {
    report.histogram_us.iter().filter(|(to, _)| *to > us).map(|(_, count)| count).sum()
}

#[tokio::test]
async fn every_workload_runs_without_an_error_and_finds_what_was_loaded() {
    let fake = Fake::start().await;
    for workload in [Workload::A, Workload::B, Workload::C, Workload::D, Workload::E, Workload::F] {
        let report = measured(&fake, workload, |plan| plan.pipeline = 3).await;
        assert!(report.all().count > 100, "{workload:?}: {}", report.all().count);
        assert_eq!((report.failed(), report.errors.len()), (0, 0), "{:?}", report.errors);
        // Of workload d an insert may be under way when its key is read.
        let most = if workload == Workload::D { report.all().count / 2 } else { 0 };
        assert!(report.missing <= most, "{workload:?}: {} missing", report.missing);
    }
    assert!(fake.with(|data| data.keys.len()) > 1_000, "d and e insert");
}

#[tokio::test]
async fn a_stall_is_charged_to_all_that_should_have_begun_meanwhile() {
    let fake = Fake::start().await;
    let stalled = |plan: &mut Plan| {
        plan.time = Duration::from_secs(1);
        plan.warm_up = Duration::from_millis(200);
        let from = Instant::now() + Duration::from_millis(600);
        fake.with(|data| data.stall = Some((from, from + Duration::from_millis(300))));
    };
    let open = measured(&fake, Workload::C, |plan| {
        stalled(plan);
        plan.rate = Some(1_000);
        plan.pipeline = 16;
    })
    .await;
    // Every request that was meant for the second is there, and two tenths of them waited for
    // more than a tenth.
    assert!(open.all().count.abs_diff(1_000) <= 2, "{}", open.all().count);
    let late = slower_than(&open, 100_000);
    assert!((150..=280).contains(&late), "{late} late");
    let closed = measured(&fake, Workload::C, stalled).await;
    let late = slower_than(&closed, 100_000);
    assert!((1..=4).contains(&late), "{late} late: what the open loop is for");
}

#[tokio::test]
async fn a_lost_connection_is_an_error_each_and_is_made_again() {
    let fake = Fake::start().await;
    let lose = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        fake.with(|data| data.lives_for = Some(0));
        tokio::time::sleep(Duration::from_millis(100)).await;
        fake.with(|data| data.lives_for = None);
    };
    let run = measured(&fake, Workload::C, |plan| plan.time = Duration::from_secs(1));
    let (report, ()) = tokio::join!(run, lose);
    assert!(report.errors.get("connection").is_some_and(|count| *count >= 2), "{report:?}");
    assert!(report.all().count > 100);
    let last = report.samples.last().expect("samples");
    assert!(last.per_second > 0.0, "it goes on");
}
