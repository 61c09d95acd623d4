//! The ledger on a real file system: leases, locks and refusals.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod ipam_support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use cni::ipam::{Condition, Found, IpamError, LeaseState, Store};
use cni::spec::{CniError, Code};
use cni::{Addresses, ipam};
use ipam_support::{BOOT, attachment, claim, links, no_links, store};

#[test]
fn an_attachment_gets_its_addresses_once_and_gives_them_back() {
    let state_dir = tempfile::tempdir().unwrap();
    let store = store(state_dir.path());
    assert!(store.leases().unwrap().is_empty());
    assert!(!state_dir.path().join("cni").exists(), "looking makes nothing");

    let blocks = ["10.0.0.0/24", "fd00::/64"];
    let first = store.claim(&claim("a", &blocks)).unwrap();
    assert_eq!(first.addresses.to_string(), "10.0.0.1 and fd00::1");
    assert_eq!(store.lease(&attachment("a")).unwrap(), Some(first.clone()));
    store.ready(&first).unwrap();
    assert_eq!(store.lease(&attachment("a")).unwrap().unwrap().state, LeaseState::Ready);
    assert_eq!(store.claim(&claim("a", &blocks)).unwrap().addresses, first.addresses, "again the same");
    assert_eq!(store.claim(&claim("b", &blocks)).unwrap().addresses.to_string(), "10.0.0.2 and fd00::2");

    let released = store.release(&attachment("a")).unwrap().unwrap();
    assert_eq!((released.addresses, released.pod.as_deref()), (first.addresses, Some("default/a")));
    assert_eq!(store.release(&attachment("a")).unwrap(), None);
    assert_eq!(store.claim(&claim("c", &blocks)).unwrap().addresses.to_string(), "10.0.0.3 and fd00::3");
    assert_eq!(store.leases().unwrap().len(), 2);
}

#[test]
fn an_add_that_del_overtook_is_told() {
    let state_dir = tempfile::tempdir().unwrap();
    let store = store(state_dir.path());
    let early = claim("a", &["10.0.0.0/24"]);
    let lease = store.claim(&early).unwrap();
    store.release(&attachment("a")).unwrap();
    assert!(matches!(store.ready(&lease), Err(IpamError::Overtaken { .. })));
    // The attachment came back in between: its row is not the first ADD's.
    let again = store.claim(&early).unwrap();
    assert!(matches!(store.ready(&lease), Err(IpamError::Overtaken { .. })));
    store.ready(&again).unwrap();
    store.release(&attachment("a")).unwrap();
    // This DEL finds nothing: an ADD that began before it is late, one that begins after it is not.
    store.release(&attachment("a")).unwrap();
    let error = CniError::from(store.claim(&early).unwrap_err());
    assert_eq!(error.code, Code::TryAgainLater, "{error}");
    let mut late = claim("a", &["10.0.0.0/24"]);
    late.process.started_ticks = late.called_at.nanoseconds / 10_000_000;
    store.claim(&late).unwrap();
}

#[test]
fn a_full_block_says_how_full_it_is_and_a_young_address_is_better_than_none() {
    let state_dir = tempfile::tempdir().unwrap();
    let store = store(state_dir.path());
    for id in ["a", "b"] {
        store.claim(&claim(id, &["10.0.0.0/30"])).unwrap();
    }
    let error = CniError::from(store.claim(&claim("c", &["10.0.0.0/30"])).unwrap_err());
    assert_eq!((error.code, error.details.as_str()), (Code::TryAgainLater, "10.0.0.0/30: 2 of 2 leased"));
    store.release(&attachment("b")).unwrap();
    assert_eq!(store.claim(&claim("c", &["10.0.0.0/30"])).unwrap().addresses.to_string(), "10.0.0.2");
}

#[test]
fn a_thousand_changes_leave_a_small_log() {
    let state_dir = tempfile::tempdir().unwrap();
    let store = Store::open(state_dir.path(), BOOT, Duration::ZERO, no_links());
    let kept = store.claim(&claim("kept", &["10.0.0.0/16", "fd00::/64"])).unwrap();
    for round in 0..1500 {
        let lease = store.claim(&claim(&format!("pod-{round}"), &["10.0.0.0/16", "fd00::/64"])).unwrap();
        assert_eq!(
            lease.addresses.v4.unwrap().to_bits(),
            0x0a00_0002 + round,
            "the cursor outlives every rewrite"
        );
        store.ready(&lease).unwrap();
        store.release(&lease.attachment).unwrap();
    }
    assert_eq!(store.leases().unwrap(), vec![kept]);
    let size = fs::metadata(state_dir.path().join("cni/ledger")).unwrap().len();
    assert_eq!(size, 128 * 1024);
}

#[test]
fn rows_of_an_earlier_boot_do_not_count() {
    let state_dir = tempfile::tempdir().unwrap();
    let before = store(state_dir.path());
    let old = before.claim(&claim("a", &["10.0.0.0/24"])).unwrap();
    let after = Store::open(state_dir.path(), "another boot", Duration::from_secs(60), no_links());
    assert!(after.leases().unwrap().is_empty());
    assert_eq!(after.view(|_, condition| condition).unwrap(), Condition::EarlierBoot);
    // Its address rests, and its late DEL finds nothing.
    let new = after.claim(&claim("b", &["10.0.0.0/24"])).unwrap();
    assert_ne!(new.addresses, old.addresses);
    assert_eq!(after.release(&attachment("a")).unwrap(), None);
    assert_eq!(after.leases().unwrap(), vec![new]);
}

#[test]
fn a_damaged_or_missing_log_is_made_anew_from_the_kernel() {
    fn wired(_: u8) -> Result<Vec<Found>, String> {
        let addresses = Addresses { v4: Some("10.0.0.9".parse().unwrap()), v6: None };
        Ok(vec![Found { attachment: attachment("wired"), addresses }])
    }
    let damage: [fn(&std::path::Path); 3] = [
        |log| fs::remove_file(log).unwrap(),
        |log| fs::write(log, b"no log").unwrap(),
        |log| {
            let mut bytes = fs::read(log).unwrap();
            bytes[160] ^= 1;
            fs::write(log, bytes).unwrap();
        },
    ];
    for (number, damage) in damage.iter().enumerate() {
        let state_dir = tempfile::tempdir().unwrap();
        let before = store(state_dir.path());
        let intent = before.claim(&claim("under-way", &["10.0.0.0/24"])).unwrap();
        before.claim(&claim("next", &["10.0.0.0/24"])).unwrap();
        damage(&state_dir.path().join("cni/ledger"));
        let after = Store::open(state_dir.path(), BOOT, Duration::from_secs(60), links(wired));
        let lease = after.claim(&claim("new", &["10.0.0.8/30"])).unwrap();
        assert_eq!(lease.addresses.to_string(), "10.0.0.10", "case {number}: .9 is wired");
        let rows = after.leases().unwrap();
        assert!(rows.iter().any(|row| row.attachment == attachment("wired") && row.ports && row.shaped));
        if number == 2 {
            // This process lives, and its second claim could still be read.
            assert!(rows.iter().any(|row| row.attachment == attachment("next")), "{rows:?}");
            assert!(state_dir.path().join("cni/ledger.damaged").exists());
        }
        assert!(before.ready(&intent).is_err(), "case {number}: the row is lost");
    }
    let state_dir = tempfile::tempdir().unwrap();
    let refused =
        Store::open(state_dir.path(), BOOT, Duration::ZERO, links(|_| Err("no netlink".to_owned())));
    let error = CniError::from(refused.claim(&claim("a", &["10.0.0.0/24"])).unwrap_err());
    assert!(error.code == Code::TryAgainLater && error.msg.contains("no netlink"), "{error}");
}

#[test]
fn a_log_of_a_later_towpath_is_left_alone() {
    let state_dir = tempfile::tempdir().unwrap();
    let store = store(state_dir.path());
    store.claim(&claim("a", &["10.0.0.0/24"])).unwrap();
    let path = state_dir.path().join("cni/ledger");
    let mut bytes = fs::read(&path).unwrap();
    (bytes[16], bytes[20]) = (2, !2);
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(store.claim(&claim("b", &["10.0.0.0/24"])), Err(IpamError::Newer { version: 2, .. })));
    assert!(matches!(store.release(&attachment("a")), Err(IpamError::Newer { .. })));
    assert!(matches!(store.leases(), Err(IpamError::Newer { .. })));
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_folder_others_can_write_is_refused() {
    let state_dir = tempfile::tempdir().unwrap();
    let folder = state_dir.path().join("cni");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let error = store(state_dir.path()).claim(&claim("a", &["10.0.0.0/24"])).unwrap_err();
    assert!(error.to_string().contains("mode 0777"), "{error}");
    fs::remove_dir(&folder).unwrap();
    fs::write(&folder, b"").unwrap();
    let error = CniError::from(store(state_dir.path()).claim(&claim("a", &["10.0.0.0/24"])).unwrap_err());
    assert!(error.code == Code::Io && error.msg.contains("must be a folder"), "{error}");
}

#[test]
fn files_are_for_root_alone() {
    let state_dir = tempfile::tempdir().unwrap();
    store(state_dir.path()).claim(&claim("a", &["10.0.0.0/24"])).unwrap();
    for name in ["cni", "cni/ledger", "cni/lock"] {
        let mode = fs::metadata(state_dir.path().join(name)).unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{name} has mode {mode:o}");
    }
}

#[test]
fn a_hundred_claims_at_once_get_a_hundred_addresses() {
    let state_dir = tempfile::tempdir().unwrap();
    let state_dir = state_dir.path();
    std::thread::scope(|scope| {
        for worker in 0..20 {
            scope.spawn(move || {
                let store = store(state_dir);
                for round in 0..5 {
                    let id = format!("pod-{worker}-{round}");
                    let turn = store.attachment_lock(&attachment(&id), Duration::from_secs(20)).unwrap();
                    let lease = store.claim(&claim(&id, &["10.0.0.0/24", "fd00::/64"])).unwrap();
                    store.ready(&lease).unwrap();
                    drop(turn);
                }
            });
        }
    });
    let leases = store(state_dir).leases().unwrap();
    let addresses: std::collections::BTreeSet<_> =
        leases.iter().flat_map(|lease| lease.addresses.iter()).collect();
    assert_eq!((leases.len(), addresses.len()), (100, 200));
    assert!(leases.iter().all(|lease| lease.state == LeaseState::Ready));
}

#[test]
fn attachments_take_turns() {
    let state_dir = tempfile::tempdir().unwrap();
    let (one, other) = (store(state_dir.path()), store(state_dir.path()));
    let short = Duration::from_millis(20);
    let turn = one.attachment_lock(&attachment("a"), short).unwrap();
    assert!(matches!(other.attachment_lock(&attachment("a"), short), Err(IpamError::Locked { .. })));
    other.claim(&claim("b", &["10.0.0.0/24"])).unwrap();
    other.attachment_lock(&attachment("b"), short).unwrap();
    drop(turn);
    other.attachment_lock(&attachment("a"), Duration::from_secs(20)).unwrap();
    assert_eq!(ipam::REUSE_DELAY, Duration::from_secs(60));
}

#[test]
fn static_addresses_are_given_to_one_and_refused_by_name() {
    let state_dir = tempfile::tempdir().unwrap();
    let store = store(state_dir.path());
    let blocks = ["10.0.0.0/24", "10.0.9.0/24", "fd00::/64"];
    let fixed = |id: &str, wanted: &[&str]| {
        let wanted = wanted.iter().map(|address| address.parse().unwrap()).collect();
        cni::ipam::Claim { wanted, reserved: vec!["10.0.0.200".parse().unwrap()], ..claim(id, &blocks) }
    };
    let lease = store.claim(&fixed("a", &["10.0.0.77"])).unwrap();
    assert_eq!(lease.addresses.to_string(), "10.0.0.77 and fd00::4d", "the other family follows");
    assert_eq!(
        store.claim(&fixed("b", &["fd00::9", "10.0.9.1"])).unwrap().addresses.to_string(),
        "10.0.9.1 and fd00::9"
    );
    assert_eq!(
        store.claim(&claim("c", &blocks)).unwrap().addresses.to_string(),
        "10.0.0.1 and fd00::1",
        "a static address does not move the cursor"
    );
    let cases = [
        ("10.0.0.77", Code::AddressTaken, "pod default/a (container a interface eth0 of network towpath)"),
        ("10.0.1.1", Code::InvalidConfig, "foreignAddresses"),
        ("10.0.0.0", Code::InvalidConfig, "the first or last of its block"),
        ("10.0.9.255", Code::InvalidConfig, "the first or last of its block"),
        ("fd00::", Code::InvalidConfig, "the first or last of its block"),
        ("10.0.0.200", Code::InvalidConfig, "the node's own"),
        ("127.0.0.1", Code::InvalidConfig, "a loopback address"),
        ("224.0.0.1", Code::InvalidConfig, "a multicast address"),
        ("fe80::5", Code::InvalidConfig, "link-local"),
    ];
    for (address, code, words) in cases {
        let error = CniError::from(store.claim(&fixed("d", &[address])).unwrap_err());
        assert_eq!(error.code, code, "{error}");
        assert!(error.msg.contains(words) && error.msg.contains(address), "{error}");
    }
    let two = store.claim(&fixed("d", &["10.0.0.5", "10.0.0.6"])).unwrap_err();
    assert!(matches!(two, IpamError::SameFamily { .. }), "{two}");
    let foreign = cni::ipam::Claim { foreign_addresses: true, ..fixed("d", &["192.0.2.7"]) };
    assert_eq!(store.claim(&foreign).unwrap().addresses.to_string(), "192.0.2.7 and fd00::2");
    let other = store.claim(&fixed("a", &["10.0.0.78"])).unwrap();
    assert_eq!(other.addresses.to_string(), "10.0.0.78 and fd00::4e", "another wish ends the first lease");
    assert_eq!(store.leases().unwrap().len(), 4);
}

#[test]
fn the_nodes_own_addresses_and_those_outside_the_ranges_are_never_chosen() {
    let state_dir = tempfile::tempdir().unwrap();
    let store = store(state_dir.path());
    let range = cni::spec::IpRange { first: "10.0.0.4".parse().unwrap(), last: "10.0.0.6".parse().unwrap() };
    let wish = |id: &str| cni::ipam::Claim {
        ranges: vec![range],
        reserved: vec!["10.0.0.5".parse().unwrap()],
        ..claim(id, &["10.0.0.0/29"])
    };
    assert_eq!(store.claim(&wish("a")).unwrap().addresses.to_string(), "10.0.0.4");
    assert_eq!(store.claim(&wish("b")).unwrap().addresses.to_string(), "10.0.0.6");
    assert!(matches!(store.claim(&wish("c")), Err(IpamError::Exhausted { .. })));
    let outside = cni::ipam::Claim { blocks: vec!["10.1.0.0/29".parse().unwrap()], ..wish("c") };
    assert!(matches!(store.claim(&outside), Err(IpamError::RangesOutside { .. })));
    assert!(matches!(store.claim(&claim("c", &[])), Err(IpamError::NoBlocks)));
}

#[test]
fn a_wired_pod_is_entered_as_it_is() {
    let state_dir = tempfile::tempdir().unwrap();
    let store = store(state_dir.path());
    let lease = store.claim(&claim("a", &["10.0.0.0/24"])).unwrap();
    let found = |id: &str, last: u8| Found {
        attachment: attachment(id),
        addresses: Addresses { v4: Some([10, 0, 0, last].into()), v6: None },
    };
    let adopted = store.adopt(found("a", 9)).unwrap();
    assert_eq!((adopted.addresses.v4, adopted.pod), (Some([10, 0, 0, 9].into()), lease.pod));
    assert_eq!(store.adopt(found("b", 7)).unwrap().state, LeaseState::Ready);
    assert!(matches!(store.adopt(found("b", 9)), Err(IpamError::Taken { .. })));
    assert_eq!(store.leases().unwrap().len(), 2);
}
