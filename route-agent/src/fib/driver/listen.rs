//! What the kernel reports: to the pure core, and to the speaker where it concerns links.

use std::time::Instant;

use tracing::{debug, info, warn};

use super::{Busy, Driver};
use crate::fib::run::{Feedback, SpeakerFeedback};
use crate::kernel::monitor::KernelEvent;
use crate::kernel::{KernelRoute, Link, RTN_UNICAST};

impl<F: SpeakerFeedback> Driver<F> {
    pub(super) fn kernel_events(&mut self, events: Vec<KernelEvent>) {
        if self.busy == Busy::Reading {
            return self.hold(events);
        }
        for event in events {
            self.kernel_event(event);
        }
    }

    pub(super) fn kernel_event(&mut self, event: KernelEvent) {
        let now = Instant::now();
        match event {
            KernelEvent::Link(link) => self.link(now, link, true),
            KernelEvent::LinkGone(link) => self.link(now, Link { usable: false, ..link }, false),
            KernelEvent::Address(address, present) => {
                let of_pod = self.topology.link(address.ifindex).is_some_and(|link| is_pods(&link.name));
                let news = self.topology.address_changed(address, present);
                if news && (!of_pod || self.leads_over(address.ifindex)) {
                    self.fib.try_again(now);
                    self.resolve_all();
                    self.publish();
                }
            }
            KernelEvent::Route { route, replaced, port } => {
                if replaced {
                    self.fib.route_replaced(now, &route, &who(port));
                }
                let install = self.fib.install();
                self.published.pods.send_if_modified(|pods| pods.appeared(install, &route));
                self.routes_changed(&route);
            }
            KernelEvent::RouteGone { route, port } => {
                let install = self.fib.install();
                self.published.pods.send_if_modified(|pods| pods.gone(install, &route));
                if port == 0 && route.protocol == self.fib.install().protocol {
                    // The kernel itself: the route went with its nexthop object, which is looked at.
                    self.verify = true;
                } else {
                    self.fib.route_gone(now, &route, &who(port));
                }
                self.routes_changed(&route);
            }
            KernelEvent::Nexthop { object, port } => self.fib.nexthop_changed(now, &object, &who(port)),
            KernelEvent::NexthopGone { id, port } => self.fib.nexthop_gone(now, id, &who(port)),
            KernelEvent::Overrun => {
                warn!("kernel notifications were lost: reading everything anew");
                self.resync = true;
            }
        }
    }

    fn link(&mut self, now: Instant, link: Link, exists: bool) {
        let Link { index: ifindex, usable, mtu_bytes, .. } = link;
        let name = link.name.clone();
        let of_pod = is_pods(&name);
        let before = if exists {
            self.topology.link_changed(link)
        } else {
            self.published.pods.send_if_modified(|pods| pods.link_gone(ifindex));
            self.topology.link_gone(ifindex)
        };
        let was_usable = before.as_ref().is_some_and(|link| link.usable);
        if was_usable == usable {
            if (!exists && !of_pod) || before.is_some_and(|link| link.mtu_bytes != mtu_bytes) {
                self.publish();
            }
            return;
        }
        // Pods come and go by the thousand, and hardly one is a next hop.
        let of_interest = !of_pod || self.leads_over(ifindex);
        if of_pod {
            debug!(ifname = name, ifindex, usable, "link of a pod");
        } else {
            info!(ifname = name, ifindex, usable, "link");
        }
        if exists {
            // The kernel removes IPv4 routes of a link that is taken down without a word.
            self.pods_to_look_up.extend(self.published.pods.borrow().behind(ifindex));
        }
        if usable {
            self.fib.try_again(now);
            self.outgoing.push_back(Feedback::LinkUp { ifindex, name });
        } else {
            self.fib.link_lost(ifindex);
            self.outgoing.push_back(Feedback::LinkDown { ifindex, name });
        }
        if !of_interest {
            return;
        }
        self.verify = true;
        self.resolve_all();
        self.publish();
        // Routes over it have come alive or died, mostly without a notification of their own.
        self.others_changed();
    }

    /// Whether a next hop is on this interface.
    fn leads_over(&self, ifindex: u32) -> bool {
        let named = self.fib.nexthops().any(|nexthop| nexthop.ifindex == Some(ifindex));
        named || self.fib.links().contains(&ifindex)
    }

    /// Routes of others may be different now.
    pub(super) fn others_changed(&self) {
        self.published.others.send_modify(|epoch| *epoch += 1);
    }

    /// The way to next hops that are not on link may be another now.
    fn routes_changed(&mut self, route: &KernelRoute) {
        let install = self.fib.install();
        if route.protocol != install.protocol && route.protocol != install.local_protocol {
            self.others_changed();
        }
        if route.kind == RTN_UNICAST {
            self.to_look_up.extend(self.indirect.iter().copied());
        }
    }
}

/// Whether the CNI plugin made a link: `tw` or `ti` and a hash.
fn is_pods(name: &str) -> bool {
    name.len() == 15 && (name.starts_with("tw") || name.starts_with("ti"))
}

/// Who is behind a netlink port, as far as that can be known afterwards.
fn who(port: u32) -> String {
    if port == 0 {
        return "the kernel".into();
    }
    match std::fs::read_to_string(format!("/proc/{port}/comm")) {
        Ok(name) => format!("{} (process {port})", name.trim()),
        Err(_) => format!("process or socket {port}, already gone"),
    }
}
