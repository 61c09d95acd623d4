//! The driver without a kernel behind it: the worker's answers are made up here.

use std::sync::mpsc::{Receiver, sync_channel};

use tokio::sync::mpsc;

use super::*;
use crate::kernel::worker::Answer;
use crate::kernel::{KernelRoute, Link};

#[derive(Clone)]
struct Deaf;

impl SpeakerFeedback for Deaf {
    async fn send(&self, _: Feedback) -> Result<(), Stopped> {
        Ok(())
    }
}

struct Bench {
    driver: Driver<Deaf>,
    jobs: Receiver<Job>,
}

fn bench() -> Bench {
    let install = Install {
        metric: 20,
        table: 254,
        max_paths: 8,
        protocol: 199,
        local_protocol: 200,
        advertise_after_install: false,
    };
    let (outbox, jobs) = sync_channel(8);
    let worker = Worker { jobs: outbox, answers: mpsc::channel(1).1, thread: std::thread::spawn(|| ()) };
    let monitor = Monitor::subscribe(u32::MAX).unwrap();
    let (inbox, commands) = (mpsc::channel(1).1, mpsc::channel(1).1);
    let published = Published {
        topology: watch::Sender::new(Arc::default()),
        others: watch::Sender::new(0),
        pods: watch::Sender::default(),
    };
    let mut driver = Driver::new(install, inbox, Deaf, monitor, worker, commands, published);
    driver.adopt(Snapshot { links: vec![link(true)], ..Snapshot::default() });
    Bench { driver, jobs }
}

fn link(usable: bool) -> Link {
    Link { index: 7, name: "eth7".into(), usable, mtu_bytes: 1500 }
}

fn with_runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_link_lost_while_everything_is_read_stays_lost_although_the_read_saw_it_up() {
    with_runtime(async {
        let Bench { mut driver, jobs } = bench();
        driver.resync = true;
        driver.advance();
        assert!(matches!(jobs.try_recv(), Ok(Job::Snapshot { .. })));
        driver.kernel_events(vec![KernelEvent::Link(link(false))]);
        assert!(!driver.topology.usable(7), "at once");
        let older = Snapshot { links: vec![link(true)], ..Snapshot::default() };
        driver.answered(Answer::Snapshot(Ok(older)));
        assert!(!driver.topology.usable(7), "afterwards");
        assert!(!driver.outgoing.iter().any(|told| matches!(told, Feedback::LinkUp { .. })));
        driver.advance();
        assert!(matches!(jobs.try_recv(), Ok(Job::Nexthops)), "its nexthop objects are looked at");
    });
}

#[test]
fn a_route_lost_while_everything_is_read_is_asked_for_although_the_read_saw_it() {
    with_runtime(async {
        let Bench { mut driver, .. } = bench();
        let prefix = "10.1.0.0/16".parse().unwrap();
        let route = KernelRoute {
            prefix,
            table: 254,
            metric: 20,
            protocol: 199,
            kind: crate::kernel::RTN_UNICAST,
            tos: 0,
            nexthop_id: None,
            ifindex: None,
        };
        driver.resync = true;
        driver.advance();
        driver.kernel_events(vec![KernelEvent::RouteGone { route, port: 1 }]);
        driver.answered(Answer::Snapshot(Ok(Snapshot { routes: vec![route], ..Snapshot::default() })));
        assert_eq!(driver.status().routes_v4, 0);
    });
}

#[test]
fn a_read_that_fails_is_shown_and_repeated_and_does_not_end_the_task() {
    with_runtime(async {
        let Bench { mut driver, jobs } = bench();
        driver.resync = true;
        driver.advance();
        for round in 0..2 {
            assert!(matches!(jobs.try_recv(), Ok(Job::Snapshot { .. })), "round {round}");
            let unstable = KernelError::Unstable { doing: "list routes", attempts: 8 };
            driver.answered(Answer::Snapshot(Err(unstable)));
            driver.advance();
            assert!(jobs.try_recv().is_err(), "not at once");
            let warnings = driver.status().warnings;
            assert!(warnings.iter().any(|line| line.contains("tried again")), "{warnings:?}");
            driver.retry.as_mut().unwrap().at = Instant::now();
            driver.advance();
        }
        driver.answered(Answer::Snapshot(Ok(Snapshot::default())));
        assert!(driver.status().warnings.is_empty());
        assert_eq!(driver.status().resyncs, 1);
    });
}
