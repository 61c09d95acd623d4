//! What a lease costs: `cargo test --release -p towpath-cni --test ipam_cost -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod ipam_support;

use std::time::{Duration, Instant};

use ipam_support::{attachment, claim, store};

/// Median time of `claim`, `ready` and `release`, in microseconds, with so many other rows.
fn medians(rows: usize) -> [f64; 3] {
    let state_dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let blocks = ["10.0.0.0/16", "fd00::/64"];
    let id = |number: usize| format!("{number:064x}");
    for number in 0..rows {
        let lease = store(state_dir.path()).claim(&claim(&id(number), &blocks)).unwrap();
        store(state_dir.path()).ready(&lease).unwrap();
    }
    let mut times = [const { Vec::new() }; 3];
    for number in rows..rows + 300 {
        // As the plugin does: a new process, a new store.
        let wanted = claim(&id(number), &blocks);
        let store = store(state_dir.path());
        let mut measure = |at: usize, what: &mut dyn FnMut()| {
            let began = Instant::now();
            what();
            times[at].push(began.elapsed());
        };
        let mut lease = None;
        measure(0, &mut || lease = Some(store.claim(&wanted).unwrap()));
        measure(1, &mut || store.ready(lease.as_ref().unwrap()).unwrap());
        measure(2, &mut || drop(store.release(&attachment(&id(number))).unwrap()));
    }
    times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e6
    })
}

#[test]
#[ignore = "a measurement: needs a quiet machine"]
fn leases_among_a_thousand_cost_little_more_than_the_first() {
    let _ = medians(0);
    for rows in [0, 100, 1000] {
        let [claim, ready, release] = medians(rows);
        println!("{rows:5} rows: claim {claim:6.0} us  ready {ready:5.0} us  release {release:5.0} us");
    }
    let [empty, ..] = medians(0);
    let [full, ..] = medians(1000);
    let more = Duration::from_secs_f64((full - empty).max(0.0) / 1e6);
    assert!(more < Duration::from_micros(200), "{more:?}: a tenth of an ADD");
}
