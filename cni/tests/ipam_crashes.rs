//! Invariant 7 of the ledger: no address is leased twice and none is lost, whatever is killed between any two file
//! operations, whatever a power failure leaves of the disk, whatever rots.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod ipam_support;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use cni::Addresses;
use cni::ipam::{Condition, Found, IpamError, Lease, Store};
use ipam_support::disk::{Program, World};
use ipam_support::{BOOT, attachment, claim};
use proptest::prelude::*;

/// Fourteen addresses for twenty pods: exhaustion and reuse are frequent.
const BLOCKS: [&str; 2] = ["10.0.0.0/28", "fd00::/124"];

#[derive(Clone, Debug)]
enum Act {
    Add(u8),
    Del(u8),
    /// ADD and DEL of another container so many times: fills the log.
    Churn(u8),
    PowerFailure,
    Rot(u32),
}

/// What must be true, kept beside the store.
#[derive(Default)]
struct Truth {
    /// Leases somebody relies on, with their addresses.
    held: BTreeMap<u8, Lease>,
}

fn acts() -> impl Strategy<Value = Vec<(Act, Option<u32>)>> {
    let act = prop_oneof![
        6 => (0..20u8).prop_map(Act::Add),
        4 => (0..20u8).prop_map(Act::Del),
        1 => (100..180u8).prop_map(Act::Churn),
        1 => Just(Act::PowerFailure),
        1 => any::<u32>().prop_map(Act::Rot),
    ];
    // Killed after so many file operations; what is killed late was not killed.
    let fuel = prop_oneof![3 => Just(None), 2 => (0..16u32).prop_map(Some), 1 => (0..2000u32).prop_map(Some)];
    proptest::collection::vec((act, fuel), 1..60)
}

fn name(pod: u8) -> String {
    format!("pod-{pod}")
}

fn store(world: &Rc<World>) -> Store<Program> {
    Store::new(Program(Rc::clone(world)), BOOT, Duration::from_secs(60))
}

/// One ADD: lease, wire, ready. `Err` when it was killed or refused; what it then left is for DEL.
fn add(world: &Rc<World>, id: &str) -> Result<Lease, IpamError> {
    let store = store(world);
    let lease = store.claim(&claim(id, &BLOCKS))?;
    let found = Found { attachment: lease.attachment.clone(), addresses: lease.addresses };
    world.links.borrow_mut().push(found);
    store.ready(&lease).inspect_err(|error| {
        if matches!(error, IpamError::Overtaken { .. }) {
            world.links.borrow_mut().pop();
        }
    })?;
    Ok(lease)
}

/// One DEL: the link goes first, as in the plugin.
fn del(world: &Rc<World>, id: &str) -> Result<Option<Lease>, IpamError> {
    world.links.borrow_mut().retain(|link| link.attachment != attachment(id));
    store(world).release(&attachment(id))
}

/// The next program makes the log anew where that is due; if it is killed, the one after it.
fn recover(world: &Rc<World>) {
    if store(world).recover().is_err() {
        world.fuel.set(None);
        store(world).recover().unwrap();
    }
    world.fuel.set(None);
}

impl Truth {
    fn act(&mut self, world: &Rc<World>, act: &Act) {
        match act {
            Act::Add(pod) if self.held.contains_key(pod) => (),
            Act::Add(pod) => match add(world, &name(*pod)) {
                Ok(lease) => drop(self.held.insert(*pod, lease)),
                // A runtime answers a failed ADD with DEL; so does this one, as soon as nothing kills it.
                Err(_) => {
                    world.fuel.set(None);
                    del(world, &name(*pod)).unwrap();
                }
            },
            Act::Del(pod) => {
                self.held.remove(pod);
                if del(world, &name(*pod)).is_err() {
                    world.fuel.set(None);
                    del(world, &name(*pod)).unwrap();
                }
            }
            Act::Churn(times) => {
                for _ in 0..*times {
                    if add(world, "churn").and_then(|_| del(world, "churn")).is_err() {
                        world.fuel.set(None);
                        del(world, "churn").unwrap();
                    }
                }
            }
            Act::PowerFailure => {
                world.power_failure();
                let fuel = world.fuel.take();
                // The pods died; so that durability shows, the boot id of this world stays the same.
                if store(world).view(|_, condition| condition).unwrap() == Condition::Good {
                    self.check_held(world);
                }
                world.fuel.set(fuel);
                recover(world);
                self.held.clear();
                self.collect_garbage(world);
            }
            Act::Rot(at) => {
                world.rot(*at as usize);
                recover(world);
                self.check_held(world);
                self.collect_garbage(world);
            }
        }
    }

    /// Ends rows whose release was lost: it was not yet on the disk, or it was what rotted at the log's end.
    fn collect_garbage(&self, world: &Rc<World>) {
        let held: BTreeSet<_> = self.held.keys().map(|pod| attachment(&name(*pod))).collect();
        for lease in store(world).leases().unwrap() {
            if !held.contains(&lease.attachment) {
                store(world).release(&lease.attachment).unwrap();
            }
        }
    }

    /// Each lease that somebody relies on is there as it was, and no two have an address in common.
    fn check_held(&self, world: &Rc<World>) -> BTreeMap<String, Addresses> {
        let rows: BTreeMap<String, Addresses> = store(world)
            .leases()
            .unwrap()
            .into_iter()
            .map(|lease| (lease.attachment.container_id.as_str().to_owned(), lease.addresses))
            .collect();
        for (pod, lease) in &self.held {
            assert_eq!(rows.get(&name(*pod)), Some(&lease.addresses), "pod {pod} lost its addresses");
        }
        let addresses: Vec<_> = rows.values().flat_map(Addresses::iter).collect();
        let distinct: BTreeSet<_> = addresses.iter().collect();
        assert_eq!(distinct.len(), addresses.len(), "an address is leased twice: {rows:?}");
        rows
    }

    /// And every row is somebody's.
    fn check(&self, world: &Rc<World>) {
        let rows = self.check_held(world);
        assert_eq!(rows.len(), self.held.len(), "a row belongs to nobody: {rows:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_address_is_lost_or_leased_twice(seed: u64, acts in acts()) {
        let world = Rc::new(World::default());
        world.seed.set(seed);
        let mut truth = Truth::default();
        for (act, fuel) in acts {
            world.fuel.set(fuel);
            truth.act(&world, &act);
            world.fuel.set(None);
            truth.check(&world);
        }
    }
}
