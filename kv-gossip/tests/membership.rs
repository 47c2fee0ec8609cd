//! Clusters over a virtual network: convergence, detection, refutation, facts, budgets, replay.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod net;

use kv_gossip::{Address, Config, Error, Event, Millis, Output, SplitMix64, State, Swim, Target};
use net::{Faults, Net, address};

const LOSSY: Faults =
    Faults { loss_per_mille: 50, duplicate_per_mille: 20, delay_ms_min: 1, delay_ms_max: 40 };

#[test]
fn three_local_nodes_find_each_other_and_miss_the_killed_one() {
    let (mut slowest_start, mut slowest_death) = (0, 0);
    for seed in 0..50 {
        let mut net = Net::with_members(seed, Config::local(), 3);
        let start = net.run_until(500, Net::all_see_all_up);
        slowest_start = slowest_start.max(start.expect("all see all within 500 ms"));
        net.run_for(1_000 + seed * 37);
        net.kill(2);
        let death = net.run_until(3_000, |net| net.all_see(2, State::Down));
        slowest_death = slowest_death.max(death.expect("the death is seen within 3 s"));
        assert_eq!(net.count(|event| matches!(event, Event::Down(id) if *id != 2)), 0);
    }
    println!("slowest start {slowest_start} ms, slowest death {slowest_death} ms");
}

#[test]
fn evidence_from_the_callers_traffic_speeds_a_death_up() {
    let death_ms = |told: bool| -> u64 {
        let total = (0..20).map(|seed| {
            let mut net = Net::with_members(seed, Config::local(), 3);
            net.run_for(2_000 + seed * 13);
            net.kill(3);
            if told {
                net.with(1, |machine, now| machine.note_unreachable(now, 3));
                net.with(2, |machine, now| machine.note_unreachable(now, 3));
            }
            net.run_until(5_000, |net| net.all_see(3, State::Down)).unwrap()
        });
        total.sum::<u64>() / 20
    };
    let (untold, told) = (death_ms(false), death_ms(true));
    println!("a death is seen after {untold} ms, with evidence after {told} ms");
    assert!(told + 100 < untold, "{told} {untold}");
    assert!(told < 1_400, "{told}");
}

#[test]
fn wrong_evidence_harms_nobody() {
    let mut net = Net::with_members(5, Config::local(), 3);
    net.run_for(1_000);
    for _ in 0..200 {
        net.with(1, |machine, now| machine.note_unreachable(now, 3));
        net.run_for(10);
    }
    assert_eq!(net.count(|event| matches!(event, Event::Suspect(_) | Event::Down(_))), 0);
}

#[test]
fn twenty_members_converge_and_all_find_a_killed_one() {
    let (mut slowest_start, mut slowest_death) = (0, 0);
    for seed in 0..5 {
        let mut net = Net::with_members(seed, Config::lan(), 20);
        net.faults = LOSSY;
        let start = net.run_until(10_000, Net::all_see_all_up);
        slowest_start = slowest_start.max(start.expect("all see all within 10 s"));
        net.run_for(30_000);
        assert!(net.machines.values().all(Swim::has_joined));
        net.kill(7);
        let death = net.run_until(25_000, |net| net.all_see(7, State::Down));
        slowest_death = slowest_death.max(death.expect("all know the death within 25 s"));
    }
    println!("slowest start {slowest_start} ms, slowest death {slowest_death} ms");
}

#[test]
fn a_hundred_members_converge_and_miss_five_at_once() {
    let mut net = Net::with_members(17, Config::lan(), 100);
    net.faults = LOSSY;
    let start = net.run_until(15_000, Net::all_see_all_up).expect("all see all");
    net.run_for(10_000);
    for id in [10, 30, 50, 70, 90] {
        net.kill(id);
    }
    let death = net.run_until(40_000, |net| {
        [10, 30, 50, 70, 90].iter().all(|id| net.all_see(*id, State::Down))
    });
    let death = death.expect("all know all five deaths");
    assert_eq!(net.count(|event| matches!(event, Event::Down(id) if id % 20 != 10)), 0);
    println!("a hundred: start {start} ms, five deaths {death} ms");
}

#[test]
fn a_suspect_that_is_alive_refutes() {
    let mut suspected = 0;
    for seed in 0..10 {
        let mut net = Net::with_members(seed, Config::lan(), 20);
        net.run_for(20_000);
        net.isolate(4, true);
        net.run_until(20_000, |net| {
            net.machines[&1].member(4).is_some_and(|member| member.state == State::Suspect)
        })
        .expect("an isolated member is suspected");
        suspected += net.count(|event| *event == Event::Suspect(4));
        net.isolate(4, false);
        net.run_until(20_000, |net| net.all_see(4, State::Up)).expect("it refutes");
        assert!(net.machines[&4].incarnation() > 0);
        assert_eq!(net.count(|event| *event == Event::Down(4)), 0, "seed {seed}");
        // It suspected others meanwhile; they refuted as well.
        net.run_for(60_000);
        assert!(net.all_see_all_up(), "seed {seed}");
    }
    assert!(suspected > 10);
}

#[test]
fn nobody_is_declared_down_at_five_percent_loss() {
    for seed in 0..3 {
        let mut net = Net::with_members(seed, Config::lan(), 20);
        net.faults = LOSSY;
        net.run_for(30 * 60 * 1_000);
        assert_eq!(net.count(|event| matches!(event, Event::Down(_))), 0, "seed {seed}");
        println!(
            "30 min: {} suspicions, {} packets, {} bytes per member and second",
            net.count(|event| matches!(event, Event::Suspect(_))),
            net.packets,
            net.bytes / 20 / (30 * 60)
        );
        net.run_until(60_000, Net::all_see_all_up).expect("all are up in the end");
    }
}

#[test]
fn a_process_that_was_stopped_accuses_nobody() {
    for seed in 0..10 {
        let mut net = Net::with_members(seed, Config::local(), 5);
        net.run_for(3_000);
        // Stopped while it suspects: the suspicion's end lies within the pause.
        net.isolate(2, true);
        net.run_until(3_000, |net| {
            net.machines[&2].members().any(|(_, member)| member.state == State::Suspect)
        })
        .unwrap();
        net.isolate(2, false);
        let stopped = net.pause(2);
        net.run_for(60_000);
        net.events.clear();
        net.resume(2, stopped);
        net.run_until(10_000, Net::all_see_all_up).expect("it comes back");
        let accused = net.count(|event| matches!(event, Event::Down(_)));
        assert_eq!(accused, 0, "seed {seed}: {:?}", net.events);
    }
}

#[test]
fn two_halves_find_together_again() {
    for seed in 0..3 {
        let mut net = Net::with_members(seed, Config::lan(), 21);
        net.run_for(20_000);
        // Without the seed, which each half would try again by itself.
        net.with(1, Swim::leave);
        net.run_for(10_000);
        net.kill(1);
        for left in 2..=11 {
            for right in 12..=21 {
                net.cut.insert((left, right));
                net.cut.insert((right, left));
            }
        }
        net.run_until(120_000, |net| {
            net.machines.values().all(|machine| machine.live_members() == 10)
        })
        .expect("each half sees the other as down");
        net.cut.clear();
        let healed = net.run_until(60_000, Net::all_see_all_up).expect("the cut heals");
        println!("healed after {healed} ms");
    }
}

#[test]
fn a_broken_link_between_two_members_harms_nobody() {
    for seed in 0..5 {
        let mut net = Net::with_members(seed, Config::lan(), 5);
        net.run_for(10_000);
        net.cut.extend([(1, 2), (2, 1)]);
        net.run_for(120_000);
        assert_eq!(net.count(|event| matches!(event, Event::Suspect(_))), 0, "seed {seed}");
    }
}

#[test]
fn indirect_probes_are_what_a_broken_link_is_forgiven_by() {
    let suspicions = |indirect_probes: usize| {
        let config = Config { indirect_probes, ..Config::lan() };
        let mut net = Net::with_members(1, config, 5);
        net.run_for(10_000);
        net.cut.extend([(1, 2), (2, 1)]);
        net.run_for(120_000);
        net.count(|event| matches!(event, Event::Suspect(_)))
    };
    assert_eq!(suspicions(3), 0);
    assert!(suspicions(0) > 20, "without them each probe over the link accuses");
}

/// Of twenty members three lose most of what they are sent: the healthy ones that anybody suspects
/// or declares down in half an hour.
fn harm_done_by_the_deaf(config: &Config) -> (usize, usize) {
    let mut net = Net::with_members(1, config.clone(), 20);
    net.run_for(20_000);
    net.deaf.extend([(4, 850), (9, 850), (14, 850)]);
    net.events.clear();
    net.run_for(30 * 60 * 1_000);
    let healthy = |id: u64| !net.deaf.contains_key(&id);
    let suspected = net.count(|event| matches!(event, Event::Suspect(id) if healthy(*id)));
    (suspected, net.count(|event| matches!(event, Event::Down(id) if healthy(*id))))
}

#[test]
fn doubt_in_oneself_spares_the_healthy() {
    let with = harm_done_by_the_deaf(&Config::lan());
    let without = harm_done_by_the_deaf(&Config { health_max: 0, ..Config::lan() });
    println!("healthy members (suspected, down): {with:?} with local health, {without:?} without");
    assert!(with.0 * 3 < without.0, "{with:?} {without:?}");
}

#[test]
fn a_suspicion_that_nobody_confirms_lasts_long_enough_to_be_refuted() {
    let with = harm_done_by_the_deaf(&Config { health_max: 0, ..Config::lan() });
    let short = Config { health_max: 0, suspicion_max_multiplier: 1, ..Config::lan() };
    let without = harm_done_by_the_deaf(&short);
    println!(
        "healthy members (suspected, down): {with:?} with long suspicions, {without:?} without"
    );
    assert!(with.1 * 2 < without.1, "{with:?} {without:?}");
}

#[test]
fn two_hundred_members_miss_the_dead_within_ten_periods_and_nobody_else() {
    let mut net = Net::with_members(8, Config::lan(), 200);
    net.faults = LOSSY;
    net.run_until(30_000, Net::all_see_all_up).expect("all see all");
    net.run_for(120_000);
    assert_eq!(net.count(|event| matches!(event, Event::Down(_))), 0);
    let mut periods: Vec<u64> = Vec::new();
    for id in [20, 60, 100, 140, 180] {
        net.run_for(2_300);
        net.kill(id);
        let ms = net.run_until(60_000, |net| net.all_see(id, State::Down)).expect("all know");
        periods.push(ms.div_ceil(1_000));
    }
    periods.sort_unstable();
    println!("periods until a death is known everywhere: {periods:?}");
    assert!(periods[2] <= 10, "{periods:?}");
    assert_eq!(
        net.count(|event| matches!(event, Event::Down(id) if net.machines.contains_key(*id))),
        0
    );
}

#[test]
fn a_death_that_others_confirm_is_no_reason_to_doubt_oneself() {
    let mut net = Net::with_members(16, Config::local(), 5);
    net.run_for(2_000);
    net.kill(5);
    for _ in 0..500 {
        net.run_for(10);
        assert!(net.machines.values().all(|machine| machine.stats().health_score == 0));
    }
    assert!(net.all_see(5, State::Down));
}

#[test]
fn who_leaves_is_not_taken_for_dead() {
    let mut net = Net::with_members(3, Config::lan(), 20);
    net.faults = LOSSY;
    net.run_for(20_000);
    net.with(9, Swim::leave);
    net.run_until(5_000, |net| net.machines[&9].has_left()).expect("the leave is told");
    assert_eq!(net.with(9, |machine, _| machine.publish_fact(1, b"x")), Err(Error::HasLeft));
    net.kill(9);
    net.run_until(20_000, |net| net.all_see(9, State::Left)).expect("all know");
    net.run_for(60_000);
    assert_eq!(net.count(|event| *event == Event::Down(9)), 0);
    assert_eq!(net.machines[&1].live_members(), 19);
    assert_eq!(net.machines[&1].members().count(), 20);
}

#[test]
fn a_restarted_node_is_up_again_with_its_new_address_and_new_facts() {
    for incarnation in [0, 1_000_000] {
        let mut net = Net::with_members(11, Config::local(), 3);
        net.run_for(500);
        for edit in 0..5_u8 {
            net.with(3, |machine, _| machine.publish_fact(1, &[edit])).unwrap();
            net.with(3, |machine, _| machine.publish_fact(2, b"old life")).unwrap();
            net.run_for(300);
        }
        net.kill(3);
        net.run_until(5_000, |net| net.all_see(3, State::Down)).unwrap();
        let moved = Address::new(b"node-3:7001").unwrap();
        net.start(3, moved.clone(), incarnation, &[1]);
        net.with(3, |machine, _| machine.publish_fact(1, b"new life")).unwrap();
        net.run_until(3_000, Net::all_see_all_up).expect("it is up again");
        net.run_for(3_000);
        for viewer in [1, 2] {
            assert_eq!(net.machines[&viewer].address(3), Some(&moved));
            assert_eq!(net.machines[&viewer].fact(3, 1).unwrap().bytes, b"new life");
            assert_eq!(net.machines[&viewer].fact(3, 2), None, "incarnation {incarnation}");
        }
        assert!(net.count(|event| *event == Event::AddressChanged(3)) >= 2);
    }
}

#[test]
fn a_restart_that_nobody_noticed_is_noticed() {
    // The same incarnation, another port, before anyone missed it.
    let mut net = Net::with_members(12, Config::local(), 3);
    net.run_for(1_000);
    net.kill(3);
    let moved = Address::new(b"node-3:7001").unwrap();
    net.start(3, moved.clone(), 0, &[1]);
    net.run_until(3_000, |net| {
        [1, 2].iter().all(|viewer| net.machines[viewer].address(3) == Some(&moved))
    })
    .expect("the new address spreads");
    net.run_for(5_000);
    assert!(net.all_see_all_up());
}

#[test]
fn facts_reach_all_and_a_newcomer_learns_everything() {
    let mut net = Net::with_members(4, Config::lan(), 20);
    net.faults = LOSSY;
    net.run_for(20_000);
    for owner in 1..=20 {
        for id in 0..8 {
            let bytes = vec![owner as u8; 300];
            net.with(owner, |machine, _| machine.publish_fact(id, &bytes)).unwrap();
        }
    }
    let known = |net: &Net, viewers: &[u64]| {
        viewers.iter().all(|viewer| {
            (1..=20).all(|owner| {
                let facts = net.machines[viewer].facts(owner);
                facts.filter(|(_, fact)| fact.bytes == vec![owner as u8; 300]).count() == 8
            })
        })
    };
    let all: Vec<u64> = (1..=20).collect();
    let spread = net.run_until(60_000, |net| known(net, &all)).expect("all facts reach all");
    net.run_for(60_000);
    net.start(21, address(21), 0, &[1, 2]);
    let learned = net.run_until(15_000, |net| known(net, &[21])).expect("the newcomer learns all");
    assert_eq!(net.machines[&21].live_members(), 21);
    assert!(net.packet_bytes_max <= Config::lan().packet_bytes_max);
    println!("48 kB of facts: spread in {spread} ms, learned by a newcomer in {learned} ms");

    net.with(5, |machine, _| machine.retract_fact(3)).unwrap();
    // Before the next comparisons would have found it.
    net.run_until(3_000, |net| net.machines.values().all(|machine| machine.fact(5, 3).is_none()))
        .expect("a retraction spreads");
}

#[test]
fn facts_stay_within_their_byte_budget() {
    // Every member edits 4 facts of 200 bytes each second: 16 kB/s of edits, each told ten times.
    let budget_bytes = 2_048;
    let config = Config { fact_bytes_per_period_max: budget_bytes, ..Config::lan() };
    let run = |config: Config, edits: bool| {
        let mut net = Net::with_members(6, config, 20);
        net.run_for(20_000);
        let before = net.bytes;
        for second in 0..60_u64 {
            for owner in 1..=20 {
                for id in 0..if edits { 4 } else { 0 } {
                    let bytes = [second as u8; 200];
                    net.with(owner, |machine, _| machine.publish_fact(id, &bytes)).unwrap();
                }
            }
            net.run_for(1_000);
        }
        let spent = (net.bytes - before) / 20 / 60;
        assert_eq!(net.count(|event| matches!(event, Event::Down(_))), 0);
        let oldest = (1..=20).flat_map(|owner| {
            net.machines[&1].facts(owner).map(|(_, fact)| fact.bytes[0]).collect::<Vec<_>>()
        });
        let oldest = oldest.min().unwrap_or(59);
        println!("the oldest of 80 facts was published {} s ago", 59 - oldest);
        assert!(oldest >= 30, "no fact starves under the budget: {oldest}");
        spent
    };
    let quiet = run(config.clone(), false);
    let busy = run(config, true);
    println!("bytes per member and second: {quiet} quiet, {busy} busy");
    // Facts cost their budget, the heads of the packets that carry them (15 gossip packets a
    // second), and their share of the comparison every ten seconds: 80 facts, at most twice, and
    // the requests for as many pages as they fill.
    let heads = 15 * 40;
    let comparison = 2 * (80 * 230 + 14 * 330) / 10;
    assert!(busy <= quiet + budget_bytes as u64 + heads + comparison, "{quiet} {busy}");
    assert!(busy > quiet + 1_000, "the budget is used: {quiet} {busy}");
}

#[test]
fn a_seed_reproduces_a_run() {
    let run = |seed| {
        let mut net = Net::with_members(seed, Config::lan(), 12);
        net.faults = LOSSY;
        net.run_for(30_000);
        net.kill(5);
        net.with(2, |machine, _| machine.publish_fact(1, b"x")).unwrap();
        net.run_for(60_000);
        (net.trace, net.packets, net.events)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0);
}

#[test]
fn two_clusters_that_share_a_seed_become_one() {
    let mut net = Net::new(8, Config::local());
    for id in 1..=3 {
        net.start(id, address(id), 0, &[1]);
        net.start(id + 10, address(id + 10), 0, &[11]);
    }
    net.run_for(2_000);
    assert_eq!(net.machines[&1].live_members(), 3);
    net.start(5, address(5), 0, &[2, 12]);
    net.run_until(3_000, Net::all_see_all_up).expect("the newcomer joins both");
}

#[test]
fn a_seed_that_starts_late_is_found() {
    let mut net = Net::new(9, Config::local());
    net.start(2, address(2), 0, &[1, 2]);
    net.start(3, address(3), 0, &[1]);
    net.run_for(10_000);
    net.start(1, address(1), 0, &[1]);
    net.run_until(2_000, Net::all_see_all_up).expect("the seed is tried again");
}

#[test]
fn a_refused_node_stays_out() {
    let mut net = Net::with_members(10, Config::local(), 4);
    net.run_for(1_000);
    for viewer in [1, 2, 3] {
        net.with(viewer, |machine, now| machine.refuse(now, 4));
    }
    net.run_for(10_000);
    for viewer in [1, 2, 3] {
        assert_eq!(net.machines[&viewer].member(4), None);
        assert_eq!(net.machines[&viewer].live_members(), 3);
    }
}

#[test]
fn the_table_is_bounded_and_prefers_the_living() {
    let config = Config { members_max: 4, gone_keep_ms: 3_600_000, ..Config::local() };
    let mut net = Net::with_members(13, config, 4);
    net.run_for(2_000);
    net.kill(4);
    net.run_until(5_000, |net| net.all_see(4, State::Down)).unwrap();
    net.start(5, address(5), 0, &[1]);
    net.run_for(5_000);
    for machine in net.machines.values() {
        assert!(machine.members().count() <= 4);
    }
    assert_eq!(net.machines[&1].member(5).unwrap().state, State::Up);
    net.start(6, address(6), 0, &[1]);
    net.run_for(3_000);
    assert!(net.machines[&1].stats().members_dropped > 0);
    assert_eq!(net.machines[&1].members().count(), 4);
}

#[test]
fn who_is_long_gone_is_forgotten_by_all() {
    let config = Config { gone_keep_ms: 60_000, ..Config::local() };
    let mut net = Net::with_members(14, config, 5);
    net.run_for(2_000);
    net.kill(5);
    net.run_until(10_000, |net| net.all_see(5, State::Down)).unwrap();
    net.run_for(70_000);
    // Nobody brings it back by telling those who have forgotten it already.
    assert!(net.machines.values().all(|machine| machine.member(5).is_none()));
    net.run_for(60_000);
    assert!(net.machines.values().all(|machine| machine.member(5).is_none()));
    assert_eq!(net.count(|event| *event == Event::Forgotten(5)), 4);
}

#[test]
fn bad_input_from_the_caller_is_refused_and_changes_nothing() {
    let config = Config { facts_per_node_max: 2, ..Config::local() };
    let rng = || SplitMix64::new(1);
    let mut a = Swim::new(config.clone(), 1_u64, address(1), 0, rng(), Millis::ZERO).unwrap();
    let mut b = Swim::new(config.clone(), 2_u64, address(2), 0, rng(), Millis::ZERO).unwrap();
    assert_eq!(
        a.publish_fact(1, &[0; 513]),
        Err(Error::FactTooLong { bytes: 513, bytes_max: 512 })
    );
    a.publish_fact(1, b"x").unwrap();
    a.publish_fact(2, b"y").unwrap();
    assert_eq!(a.publish_fact(3, b"z"), Err(Error::TooManyFacts { facts_max: 2 }));
    assert_eq!(a.facts(1).count(), 2);
    b.join(Millis::ZERO, [address(1)]);
    b.poll(Millis::ZERO);
    let Some(Output::Transmit { bytes, .. }) = b.poll_output() else { panic!("it asks its seed") };
    assert_eq!(kv_gossip::sender::<u64>(&bytes), Ok(2));
    assert_eq!(a.handle_message(Millis::ZERO, 3, &bytes), Err(Error::SenderMismatch));
    assert_eq!(b.handle_message(Millis::ZERO, 2, &bytes), Err(Error::FromSelf));
    assert_eq!(a.members().count(), 1);
    let too_high = Swim::new(config, 3_u64, address(3), u64::MAX, rng(), Millis::ZERO);
    assert_eq!(too_high.err(), Some(Error::Malformed { field: "incarnation" }));
}

#[test]
fn seeds_that_are_replaced_are_tried_no_more_and_new_ones_at_once() {
    let (config, rng) = (Config::local(), SplitMix64::new(1));
    let mut machine = Swim::new(config, 9_u64, address(9), 0, rng, Millis::ZERO).unwrap();
    let asked = |machine: &mut Swim<u64, SplitMix64>, now: u64| {
        machine.poll(Millis::new(now));
        let mut to = Vec::new();
        while let Some(output) = machine.poll_output() {
            if let Output::Transmit { to: Target::Address(address), .. } = output {
                to.push(address);
            }
        }
        to
    };
    machine.look_for(Millis::ZERO, [address(1), address(9)]);
    assert_eq!(asked(&mut machine, 0), [address(1)], "never itself");
    machine.look_for(Millis::new(10), [address(1), address(9)]);
    assert_eq!(asked(&mut machine, 10), [], "nothing is new: it has its pace");
    machine.look_for(Millis::new(20), [address(2)]);
    assert_eq!(asked(&mut machine, 20), [address(2)]);
    let later: Vec<Address> = (30..5_000).flat_map(|now| asked(&mut machine, now)).collect();
    assert!(later.contains(&address(2)) && !later.contains(&address(1)), "{later:?}");
}

#[test]
fn a_driver_that_polls_only_after_input_is_not_taken_for_stopped() {
    // A fact that is published between two polls makes gossip due at once: no reason for doubt.
    let mut net = Net::with_members(15, Config::local(), 3);
    net.run_for(1_000);
    for edit in 0..100_u8 {
        net.with(1, |machine, _| machine.publish_fact(1, &[edit])).unwrap();
        net.run_for(77);
        assert_eq!(net.machines[&1].stats().health_score, 0);
    }
}

#[test]
fn who_remembers_the_others_needs_no_seeds_and_finds_out_who_is_gone() {
    let mut net = Net::with_acquaintances(18, Config::local(), 12);
    assert!(net.all_see_all_up());
    assert_eq!(net.events, []);
    net.kill(7);
    net.run_until(5_000, |net| net.all_see(7, State::Down)).expect("all find out");
    assert!(net.machines.values().all(Swim::has_joined));
    // One who remembers a member that the others have long forgotten.
    net.with(3, |machine, now| machine.remember(now, [(99, address(99), 0), (7, address(7), 5)]));
    assert_eq!(net.machines[&3].member(99).unwrap().state, State::Up);
    assert_eq!(net.machines[&3].member(7).unwrap().state, State::Down, "it is known already");
    net.run_until(9_000, |net| net.all_see(99, State::Down)).expect("it is found out");
}

#[test]
fn what_a_member_sends_stays_within_its_budget_however_many_there_are() {
    let spent = |budget: usize, members: u64| {
        let config = Config {
            bytes_per_period_max: budget,
            fact_bytes_per_period_max: budget / 4,
            sync_bytes_per_period_max: budget / 2,
            ..Config::lan()
        };
        let mut net = Net::with_members(19, config, members);
        net.faults = LOSSY;
        net.run_until(60_000, Net::all_see_all_up).expect("all see all");
        net.run_for(10_000);
        net.events.clear();
        let before = net.bytes;
        for second in 0..15_u8 {
            for id in 1..=members {
                net.with(id, |machine, _| machine.publish_fact(1, &[second; 64])).unwrap();
            }
            net.run_for(1_000);
        }
        assert_eq!(net.count(|event| matches!(event, Event::Down(_))), 0);
        (net.bytes - before) / members / 15
    };
    let narrow = [10, 50].map(|members| spent(6 * 1_024, members));
    println!("bytes a member and second: {narrow:?} with a budget of 6 KiB");
    assert!(narrow.iter().all(|bytes| *bytes <= 6 * 1_024), "{narrow:?}");
    let wide = spent(64 * 1_024, 50);
    println!("and {wide} with 64 KiB");
    assert!(wide > 8 * 1_024, "it is the budget that bounds: {wide}");
}
