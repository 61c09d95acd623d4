//! The RIB in single situations: limits, verdicts, restarts, refreshes, confirmations, groups.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod rib_support;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::desired::{Attributes, MaxPrefix, MaxPrefixAction, NextHopMode};
use bgp_speaker::rib::{
    BestChange, LimitKind, Origination, OutboundNexthop, OutboundUpdate, Output, PathState, PeerId,
    PeerSettings, PrefixId, Rib, RibConfig, RibEvent, Verdict,
};
use bgp_speaker::wire::{AttributesBuilder, Nexthop, Update};
use ipnet::IpNet;
use rib_support::{V4, V6, config, prefix, reach, rib_with, session, settings, unreach};

fn apply(rib: &mut Rib, peer: PeerId, update: Update) {
    rib.apply(peer, update, &mut Output::default());
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// Everything for the FIB, confirmed; the changes told.
fn settle_fib(rib: &mut Rib) -> Vec<BestChange> {
    let mut all = Vec::new();
    while let Some(event) = rib.next_event(100) {
        if let RibEvent::Changes { seq, changes } = event {
            all.extend(changes);
            rib.installed(seq, &[]);
        }
    }
    all
}

fn updates(rib: &mut Rib, peer: PeerId) -> Vec<OutboundUpdate> {
    let batches = std::iter::from_fn(|| rib.next_updates(peer, 100));
    batches.flat_map(|batch| batch.for_peer(peer).cloned().collect::<Vec<_>>()).collect()
}

/// Short words for updates: `+prefix`, `-prefix`, `eor`, `begin`, `end`.
fn words(updates: &[OutboundUpdate]) -> Vec<String> {
    let signed = |sign: char, prefixes: &[IpNet]| prefixes.iter().map(|net| format!("{sign}{net}")).collect();
    let words = |update: &OutboundUpdate| -> Vec<String> {
        match update {
            OutboundUpdate::Reach { prefixes, .. } => signed('+', prefixes),
            OutboundUpdate::Unreach { prefixes, .. } => signed('-', prefixes),
            OutboundUpdate::EndOfRib(_) => vec!["eor".to_owned()],
            OutboundUpdate::RefreshMark { begin, .. } => {
                vec![if *begin { "begin" } else { "end" }.to_owned()]
            }
        }
    };
    updates.iter().flat_map(words).collect()
}

fn states(rib: &Rib, prefix: IpNet) -> Vec<PathState> {
    rib.paths(&prefix).into_iter().map(|view| view.state).collect()
}

fn originate(rib: &mut Rib, prefixes: &[IpNet]) {
    let routes = prefixes.iter().map(|prefix| (*prefix, Origination::default()));
    rib.set_originated(routes.collect()).unwrap();
}

/// An announcement of neighbour 0 with this AS_PATH and next hop.
fn with_path(path: &[u32], nexthop: &str) -> Update {
    let mut update = reach(0, prefix(1), 0);
    update.attributes = Some(AttributesBuilder::default().as_path(path).build().unwrap());
    update.reach[0].nexthop = Nexthop { address: nexthop.parse().unwrap(), link_local: None };
    update
}

#[test]
fn rejected_paths_are_kept_with_their_reason_and_come_into_use_when_it_goes() {
    let cases: &[(&str, &[u32], &str, Verdict)] = &[
        ("our AS once", &[65001, 65000], "10.0.0.2", Verdict::OwnAs),
        ("another first AS", &[65009], "10.0.0.2", Verdict::FirstAs),
        ("no AS at all", &[], "10.0.0.2", Verdict::FirstAs),
        ("our address", &[65001], "10.0.0.1", Verdict::OwnNexthop),
        ("a good one", &[65001], "10.0.0.2", Verdict::Accepted),
    ];
    for (name, path, nexthop, verdict) in cases {
        let (mut rib, ids) = rib_with(config());
        apply(&mut rib, ids[&0], with_path(path, nexthop));
        let expected =
            if *verdict == Verdict::Accepted { PathState::Best } else { PathState::Rejected(*verdict) };
        assert_eq!(states(&rib, prefix(1)), [expected], "{name}");
        assert_eq!(rib.received_count(ids[&0], V4), 1, "{name}");
        assert_eq!(rib.accepted(Some(ids[&0])).count(), usize::from(*verdict == Verdict::Accepted), "{name}");
        let lenient = PeerSettings { allow_local_as: 1, enforce_first_as: false, ..settings(0) };
        assert!(rib.update_peer(ids[&0], lenient).reimported);
        let accepted = *verdict != Verdict::OwnNexthop;
        assert_eq!(states(&rib, prefix(1))[0] == PathState::Best, accepted, "{name}, when allowed");
        assert_eq!(settle_fib(&mut rib).iter().any(|change| change.nexthops.is_some()), accepted, "{name}");
    }
}

#[test]
fn a_node_takes_nothing_inside_what_it_originates_until_it_stops() {
    let (mut rib, ids) = rib_with(RibConfig { transit: false, ..config() });
    rib.set_import(false, vec![net("172.16.0.0/16")]);
    originate(&mut rib, &[net("172.16.0.0/20")]);
    apply(&mut rib, ids[&0], reach(0, prefix(1), 0));
    apply(&mut rib, ids[&0], reach(0, net("172.16.99.0/24"), 0));
    apply(&mut rib, ids[&0], reach(0, net("10.9.0.0/24"), 0));
    assert_eq!(states(&rib, prefix(1)), [PathState::Rejected(Verdict::OwnPrefix)]);
    assert_eq!(states(&rib, net("172.16.99.0/24")), [PathState::Best]);
    assert_eq!(states(&rib, net("10.9.0.0/24")), [PathState::Rejected(Verdict::Filtered)]);
    originate(&mut rib, &[]);
    assert_eq!(states(&rib, prefix(1)), [PathState::Best]);
    rib.set_import(false, vec![net("10.0.0.0/8")]);
    assert_eq!(states(&rib, prefix(1)), [PathState::Rejected(Verdict::Filtered)]);
    assert_eq!(states(&rib, net("10.9.0.0/24")), [PathState::Best]);
    assert!(
        words(&updates(&mut rib, ids[&1])).iter().all(|word| !word.starts_with('+')),
        "a node passes nothing on"
    );
}

#[test]
fn max_prefix_warns_once_and_acts_at_the_first_prefix_above() {
    let cases = [
        (MaxPrefixAction::Warn, 6),
        (MaxPrefixAction::Block, 4),
        (MaxPrefixAction::Restart, 4),
        (MaxPrefixAction::Down, 4),
    ];
    for (action, taken) in cases {
        let mut rib = Rib::new(config());
        let mut limited = settings(0);
        limited.families[0].max_prefix = MaxPrefix { limit: 4, warn_at: 75, action };
        let peer = rib.add_peer(limited).unwrap();
        rib.peer_up(peer, session(0));
        let mut output = Output::default();
        for number in [0, 1, 2, 4, 5, 6, 0, 1] {
            rib.apply(peer, reach(0, prefix(number), 0), &mut output);
        }
        let kinds: Vec<_> = output.limits.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [LimitKind::Near, LimitKind::Exceeded(action)], "{action:?}");
        assert_eq!(rib.received_count(peer, V4), taken, "{action:?}");
        for number in [0, 1, 2, 4, 5, 6] {
            rib.apply(peer, unreach(prefix(number)), &mut output);
        }
        assert_eq!(rib.received_count(peer, V4), 0);
        for number in [0, 1, 2, 4, 5] {
            rib.apply(peer, reach(0, prefix(number), 0), &mut output);
        }
        assert_eq!(output.limits.len(), 4, "{action:?}: told again after the count fell");
    }
}

#[test]
fn a_lost_peer_is_told_by_its_next_hop_first_then_by_prefix_then_settled() {
    let (mut rib, ids) = rib_with(config());
    for number in [0, 1] {
        for net in [1, 2] {
            apply(&mut rib, ids[&number], reach(number, prefix(net), 0));
        }
    }
    // A third party's next hop, used by two peers: it does not go with one of them.
    for number in [0, 1] {
        let mut update = reach(number, prefix(5), 0);
        update.reach[0].nexthop.address = "10.7.7.7".parse().unwrap();
        apply(&mut rib, ids[&number], update);
    }
    let told = settle_fib(&mut rib);
    let set = told.iter().find(|change| change.prefix == prefix(1)).unwrap().nexthops.clone().unwrap();
    let other = told.iter().find(|change| change.prefix == prefix(2)).unwrap().nexthops.clone().unwrap();
    assert!(Arc::ptr_eq(&set, &other) && set.len() == 2, "one set for both prefixes");
    rib.peer_down(ids[&0], &[]);
    let mut events = Vec::new();
    while let Some(event) = rib.next_event(2) {
        events.push(match event {
            RibEvent::NexthopsDown(down) => {
                format!(
                    "down {:?}",
                    down.iter().map(|nexthop| nexthop.address.to_string()).collect::<Vec<_>>()
                )
            }
            RibEvent::Changes { changes, .. } => {
                assert!(changes.iter().all(|change| change.nexthops.as_ref().unwrap().len() == 1));
                format!("changes {}", changes.len())
            }
            RibEvent::NexthopsSettled => "settled".to_owned(),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(events, [r#"down ["10.0.0.2"]"#, "changes 2", "settled"]);
}

#[test]
fn a_restarting_peer_keeps_its_routes_until_swept_however_often_it_restarts() {
    let (mut rib, ids) = rib_with(config());
    for net in [1, 2, 3] {
        apply(&mut rib, ids[&0], reach(0, prefix(net), 0));
    }
    settle_fib(&mut rib);
    rib.peer_down(ids[&0], &[V4]);
    let held =
        |rib: &Rib| rib.received(Some(ids[&0])).map(|view| (view.prefix, view.stale)).collect::<Vec<_>>();
    assert_eq!(held(&rib), [(prefix(1), true), (prefix(2), true)], "IPv6 was not retained");
    assert!(
        settle_fib(&mut rib).iter().all(|change| change.prefix == prefix(3)),
        "nothing else changes in the FIB"
    );
    rib.peer_up(ids[&0], session(0));
    apply(&mut rib, ids[&0], reach(0, prefix(1), 0));
    assert!(settle_fib(&mut rib).is_empty());
    assert_eq!(held(&rib), [(prefix(1), false), (prefix(2), true)]);
    // Down again before the sweep: a crash loop must not drop traffic that is still forwarded.
    rib.peer_down(ids[&0], &[V4]);
    assert_eq!(held(&rib), [(prefix(1), true), (prefix(2), true)]);
    rib.peer_up(ids[&0], session(0));
    rib.sweep_stale(ids[&0], V4);
    assert_eq!(held(&rib), []);
    assert_eq!(rib.received_count(ids[&0], V4), 0);
}

#[test]
fn a_refresh_sweeps_what_was_not_announced_again() {
    let (mut rib, ids) = rib_with(config());
    for net in [1, 2, 3] {
        apply(&mut rib, ids[&0], reach(0, prefix(net), 0));
    }
    rib.refresh_end(ids[&0], V4);
    assert_eq!(rib.received(None).count(), 3, "an end without a beginning is ignored");
    rib.refresh_begin(ids[&0], V4);
    apply(&mut rib, ids[&0], reach(0, prefix(2), 1));
    rib.refresh_end(ids[&0], V4);
    let left: Vec<_> = rib.received(None).map(|view| view.prefix).collect();
    assert_eq!(left, [prefix(2), prefix(3)], "the other family is not touched");
}

#[test]
fn a_requested_refresh_sends_the_family_again_between_marks() {
    let (mut rib, ids) = rib_with(config());
    originate(&mut rib, &[prefix(1), prefix(2), prefix(3)]);
    assert_eq!(words(&updates(&mut rib, ids[&0])).iter().filter(|word| *word == "eor").count(), 2);
    rib.refresh_request(ids[&0], V4);
    rib.refresh_request(ids[&0], V4);
    let plus = |number: u8| format!("+{}", prefix(number));
    assert_eq!(words(&updates(&mut rib, ids[&0])), ["begin".to_owned(), plus(1), plus(2), "end".to_owned()]);
    let mut plain = session(1);
    plain.enhanced_refresh = false;
    rib.peer_up(ids[&1], plain);
    updates(&mut rib, ids[&1]);
    rib.refresh_request(ids[&1], V6);
    assert_eq!(words(&updates(&mut rib, ids[&1])), [plus(3)]);
}

#[test]
fn nothing_is_sent_before_release() {
    let mut rib = Rib::new(config());
    rib.hold();
    let peer = rib.add_peer(settings(0)).unwrap();
    rib.peer_up(peer, session(0));
    originate(&mut rib, &[prefix(1)]);
    assert!(!rib.has_updates(peer) && rib.next_updates(peer, 10).is_none() && rib.ready_peers().count() == 0);
    rib.release();
    assert_eq!(rib.ready_peers().collect::<Vec<_>>(), [peer]);
    assert_eq!(
        words(&updates(&mut rib, peer)),
        [format!("+{}", prefix(1)), "eor".to_owned(), "eor".to_owned()]
    );
}

#[test]
fn peers_of_a_group_share_a_batch_but_nobody_gets_its_own_route() {
    let (mut rib, ids) = rib_with(config());
    for id in ids.values() {
        updates(&mut rib, *id);
    }
    apply(&mut rib, ids[&0], reach(0, prefix(1), 0));
    apply(&mut rib, ids[&0], reach(0, prefix(2), 0));
    apply(&mut rib, ids[&1], reach(1, prefix(3), 1));
    let next = |rib: &mut Rib, number: u8| {
        let batch = rib.next_updates(ids[&number], 100).unwrap();
        let told: Vec<OutboundUpdate> = batch.for_peer(ids[&number]).cloned().collect();
        (batch, words(&told))
    };
    let signed = |sign: char, numbers: &[u8]| -> Vec<String> {
        numbers.iter().map(|number| format!("{sign}{}", prefix(*number))).collect()
    };
    let (first, told) = next(&mut rib, 1);
    assert_eq!(told, signed('+', &[1, 2]));
    assert_eq!(first.for_peer(ids[&1]).count(), 1, "equal attributes, one update");
    let (second, told) = next(&mut rib, 0);
    assert!(Arc::ptr_eq(&first, &second), "one batch, to be encoded once, whoever's routes are in it");
    assert_eq!(told, signed('+', &[3]));
    let (third, told) = next(&mut rib, 2);
    assert!(Arc::ptr_eq(&first, &third));
    assert_eq!(told, signed('+', &[1, 2, 3]));
    apply(&mut rib, ids[&0], unreach(prefix(1)));
    apply(&mut rib, ids[&0], reach(0, prefix(2), 1));
    assert!(rib.next_updates(ids[&0], 100).is_none(), "no withdrawal of what it was never told");
    assert_eq!(next(&mut rib, 1).1, [signed('-', &[1]), signed('+', &[2])].concat());
    // Peer 0 holds peer 1's route of 3, until its own is better.
    apply(&mut rib, ids[&0], reach(0, prefix(3), 0));
    assert_eq!(next(&mut rib, 0).1, signed('-', &[3]));
    assert_eq!(next(&mut rib, 1).1, signed('+', &[3]));
}

#[test]
fn a_batch_is_kept_only_until_every_peer_of_the_group_has_it() {
    let mut rib = Rib::new(config());
    originate(&mut rib, &[prefix(1)]);
    let ids = [0, 1].map(|number| {
        let id = rib.add_peer(settings(number)).unwrap();
        rib.peer_up(id, session(number));
        id
    });
    let first = rib.next_updates(ids[0], usize::MAX).unwrap();
    assert_eq!(Arc::strong_count(&first), 2, "for the other peer, who comes by the same place");
    for id in ids {
        while rib.next_updates(id, usize::MAX).is_some() {}
    }
    assert_eq!(Arc::strong_count(&first), 1, "all have walked the table, and said so");
}

#[test]
fn a_peer_that_reads_late_is_told_the_latest_state_only() {
    let (mut rib, ids) = rib_with(config());
    updates(&mut rib, ids[&1]);
    updates(&mut rib, ids[&2]);
    for round in 0..20 {
        apply(&mut rib, ids[&0], reach(0, prefix(1), round % 8));
        apply(&mut rib, ids[&0], reach(0, prefix(2), round % 8));
        updates(&mut rib, ids[&1]);
    }
    apply(&mut rib, ids[&0], unreach(prefix(1)));
    assert_eq!(words(&updates(&mut rib, ids[&2])).len(), 2, "once for each prefix");
}

#[test]
fn scope_and_kind_of_session_limit_what_is_passed_on() {
    let with = |number: u8, communities: &[u32]| {
        let session = session(number);
        let path: &[u32] = if session.ebgp { &[session.remote_asn] } else { &[64999] };
        let mut update = reach(number, prefix(1), 0);
        update.attributes =
            Some(AttributesBuilder::default().as_path(path).communities(communities).build().unwrap());
        update
    };
    // From eBGP neighbour 0 or iBGP neighbour 9, to eBGP neighbour 1 and iBGP neighbour 8.
    let cases: &[(&str, u8, &[u32], bool, bool)] = &[
        ("eBGP", 0, &[], true, true),
        ("iBGP", 9, &[], true, false),
        ("NO_EXPORT", 0, &[0xffff_ff01], false, true),
        ("NO_EXPORT_SUBCONFED", 0, &[0xffff_ff03], false, true),
        ("NO_ADVERTISE", 0, &[0xffff_ff02], false, false),
    ];
    for (name, from, communities, to_ebgp, to_ibgp) in cases {
        let (mut rib, ids) = rib_with(config());
        apply(&mut rib, ids[from], with(*from, communities));
        assert_eq!(rib.advertised(ids[&1]).count() == 1, *to_ebgp, "{name} to eBGP");
        assert_eq!(rib.advertised(ids[&8]).count() == 1, *to_ibgp, "{name} to iBGP");
    }
}

#[test]
fn next_hops_are_ours_kept_or_given_by_mode_and_session() {
    let given = |mode, to: u8| {
        let (mut rib, ids) = rib_with(config());
        rib.update_peer(ids[&to], PeerSettings { next_hop: mode, ..settings(to) });
        apply(&mut rib, ids[&0], reach(0, prefix(1), 0));
        let mut from_ibgp = reach(0, prefix(2), 0);
        from_ibgp.reach[0].nexthop.address = session(to).remote_address;
        apply(&mut rib, ids[&0], from_ibgp);
        originate(&mut rib, &[prefix(4)]);
        let views: Vec<_> = rib.advertised(ids[&to]).map(|view| view.nexthop.address.to_string()).collect();
        views.join(" ")
    };
    let literal = NextHopMode::Address("10.5.5.5".parse().unwrap());
    // Learned; learned with the peer's own address as next hop, which it is never given back; originated.
    let cases = [
        (NextHopMode::Auto, 1, "10.0.1.1 10.0.1.1 10.0.1.1"),
        (NextHopMode::Auto, 8, "10.0.0.2 10.0.8.1 10.0.8.1"),
        (NextHopMode::SelfAddress, 8, "10.0.8.1 10.0.8.1 10.0.8.1"),
        (NextHopMode::Keep, 1, "10.0.0.2 10.0.1.1 10.0.1.1"),
        (literal, 1, "10.5.5.5 10.5.5.5 10.5.5.5"),
    ];
    for (mode, to, expected) in cases {
        assert_eq!(given(mode, to), expected, "{mode:?} to {to}");
    }
}

#[test]
fn originated_routes_go_to_the_peers_named_with_their_own_med_and_prepends() {
    let (mut rib, ids) = rib_with(config());
    let attributes = Attributes { med: Some(7), prepend: 2, ..Attributes::default() };
    for id in ids.values() {
        updates(&mut rib, *id);
    }
    let mut route = Origination { attributes, peers: Some(vec!["peer-1".to_owned()]) };
    rib.set_originated(BTreeMap::from([(prefix(1), route.clone())])).unwrap();
    let sent = updates(&mut rib, ids[&1]);
    let OutboundUpdate::Reach { nexthop, keep_med, prepend, attributes, .. } = &sent[0] else {
        panic!("{sent:?}");
    };
    assert_eq!((*nexthop, *keep_med, *prepend), (OutboundNexthop::Own, true, 2));
    assert_eq!(attributes.summary().med, Some(7));
    assert!(rib.next_updates(ids[&2], 100).is_none());
    route.peers = Some(vec!["peer-2".to_owned()]);
    rib.set_originated(BTreeMap::from([(prefix(1), route)])).unwrap();
    assert_eq!(words(&updates(&mut rib, ids[&1])), [format!("-{}", prefix(1))]);
    assert_eq!(words(&updates(&mut rib, ids[&2])), [format!("+{}", prefix(1))]);
}

#[test]
fn an_announcement_waits_for_the_kernel_and_a_withdrawal_does_not() {
    let (mut rib, ids) = rib_with(RibConfig { advertise_after_install: true, ..config() });
    updates(&mut rib, ids[&1]);
    let take = |rib: &mut Rib| match rib.next_event(10) {
        Some(RibEvent::Changes { seq, changes }) => (seq, changes[0].id),
        other => panic!("{other:?}"),
    };
    let plus = [format!("+{}", prefix(1))];
    let minus = [format!("-{}", prefix(1))];
    apply(&mut rib, ids[&0], reach(0, prefix(1), 0));
    assert!(!rib.has_updates(ids[&1]));
    let (first, id) = take(&mut rib);
    assert!(!rib.has_updates(ids[&1]));
    // Changed again before the confirmation of the first: the second counts.
    apply(&mut rib, ids[&0], unreach(prefix(1)));
    apply(&mut rib, ids[&2], reach(2, prefix(1), 0));
    let (second, _) = take(&mut rib);
    rib.installed(first, &[]);
    assert!(!rib.has_updates(ids[&1]));
    // The kernel refuses it, and takes it later.
    rib.installed(second, &[id]);
    assert!(!rib.has_updates(ids[&1]));
    rib.installed_late(&[id]);
    assert_eq!(words(&updates(&mut rib, ids[&1])), plus);
    apply(&mut rib, ids[&2], unreach(prefix(1)));
    assert_eq!(words(&updates(&mut rib, ids[&1])), minus);
    // New attributes while the forwarding set is on its way to the kernel.
    apply(&mut rib, ids[&0], reach(0, prefix(1), 0));
    settle_fib(&mut rib);
    updates(&mut rib, ids[&1]);
    apply(&mut rib, ids[&2], reach(2, prefix(1), 0));
    let (third, _) = take(&mut rib);
    let mut tagged = reach(0, prefix(1), 0);
    let same_but_tagged = AttributesBuilder::default().as_path(&[65001]).med(Some(0)).communities(&[7]);
    tagged.attributes = Some(same_but_tagged.build().unwrap());
    apply(&mut rib, ids[&0], tagged);
    assert!(!rib.has_updates(ids[&1]));
    rib.installed(third, &[]);
    assert_eq!(words(&updates(&mut rib, ids[&1])), plus);
    // Without a FIB nothing is waited for.
    let (mut rib, ids) = rib_with(RibConfig { advertise_after_install: true, fib: false, ..config() });
    updates(&mut rib, ids[&1]);
    apply(&mut rib, ids[&0], reach(0, prefix(1), 0));
    assert_eq!(words(&updates(&mut rib, ids[&1])), plus);
    assert!(rib.next_event(10).is_none());
}

#[test]
fn a_number_is_given_out_again_only_when_the_fib_and_every_peer_have_let_go() {
    let (mut rib, ids) = rib_with(config());
    let every = [0, 1, 2, 8, 9];
    let read =
        |rib: &mut Rib, numbers: &[u8]| numbers.iter().for_each(|number| drop(updates(rib, ids[number])));
    let number_of =
        |rib: &Rib, net: IpNet| rib.best_routes().find(|best| best.route.prefix == net).unwrap().id;
    read(&mut rib, &every);
    apply(&mut rib, ids[&0], reach(0, prefix(1), 0));
    settle_fib(&mut rib);
    read(&mut rib, &every);
    let first = number_of(&rib, prefix(1));
    apply(&mut rib, ids[&0], unreach(prefix(1)));
    let Some(RibEvent::Changes { seq, .. }) = rib.next_event(10) else { panic!("a removal is told") };
    read(&mut rib, &every);
    let mut next = 10;
    let mut announce = |rib: &mut Rib| -> PrefixId {
        next += 2;
        apply(rib, ids[&0], reach(0, prefix(next), 0));
        number_of(rib, prefix(next))
    };
    assert_ne!(announce(&mut rib), first, "the FIB has not confirmed");
    rib.installed(seq, &[]);
    assert_eq!(announce(&mut rib), first, "all have let go");
    // Again, with the FIB quick and one peer slow.
    settle_fib(&mut rib);
    read(&mut rib, &every);
    apply(&mut rib, ids[&0], unreach(prefix(14)));
    settle_fib(&mut rib);
    read(&mut rib, &[0, 1, 8, 9]);
    assert_ne!(announce(&mut rib), first, "neighbour 2 has not been told of the withdrawal");
    read(&mut rib, &[2]);
    assert_eq!(announce(&mut rib), first);
}

#[test]
fn a_complete_list_is_sent_when_asked_for_and_one_prefix_is_asserted_again() {
    let (mut rib, ids) = rib_with(config());
    for net in [1, 2, 4, 5, 6] {
        apply(&mut rib, ids[&0], reach(0, prefix(net), 0));
    }
    settle_fib(&mut rib);
    rib.resend();
    rib.converged();
    let mut events = Vec::new();
    while let Some(event) = rib.next_event(2) {
        events.push(match event {
            RibEvent::Changes { changes, .. } => format!("{}", changes.len()),
            RibEvent::Resend { complete } => format!("complete {complete}"),
            RibEvent::Converged => "converged".to_owned(),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(events, ["complete false", "2", "2", "1", "complete true", "converged"]);
    rib.reassert(&prefix(4));
    rib.reassert(&net("10.99.0.0/24"));
    let again = settle_fib(&mut rib);
    assert_eq!(again.len(), 1);
    assert!(again[0].prefix == prefix(4) && again[0].nexthops.is_some());
}

#[test]
fn paths_over_an_unreachable_next_hop_wait_for_it() {
    let (mut rib, ids) = rib_with(config());
    apply(&mut rib, ids[&0], reach(0, prefix(1), 0));
    apply(&mut rib, ids[&1], reach(1, prefix(1), 1));
    let nexthop = rib.nexthops()[0];
    rib.nexthop_changed(nexthop, false);
    assert_eq!(states(&rib, prefix(1)), [PathState::Best, PathState::NexthopUnreachable]);
    assert_eq!(rib.nexthops().len(), 2, "it is still to be watched");
    rib.nexthop_changed(nexthop, true);
    assert_eq!(settle_fib(&mut rib)[0].nexthops.as_ref().unwrap().as_slice(), [nexthop]);
}

#[test]
fn the_ecmp_width_and_the_wait_for_the_kernel_change_while_running() {
    let (mut rib, ids) = rib_with(RibConfig { advertise_after_install: true, ..config() });
    for number in [0, 1, 2] {
        updates(&mut rib, ids[&number]);
        apply(&mut rib, ids[&number], reach(number, prefix(1), 0));
    }
    let width = |rib: &mut Rib| settle_fib(rib)[0].nexthops.as_ref().unwrap().len();
    assert_eq!(width(&mut rib), 3);
    rib.set_install(2, true);
    assert_eq!(width(&mut rib), 2);
    rib.set_install(8, true);
    assert_eq!(width(&mut rib), 3);
    updates(&mut rib, ids[&1]);
    apply(&mut rib, ids[&0], reach(0, prefix(2), 0));
    assert!(!rib.has_updates(ids[&1]));
    rib.set_install(8, false);
    assert_eq!(words(&updates(&mut rib, ids[&1])), [format!("+{}", prefix(2))]);
}
