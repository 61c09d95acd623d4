//! Any sequence of events to one session: it never panics, and never waits without a deadline or a connection.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use api::desired::{
    AfiSafi, Family, GracefulRestart, MaxPrefix, MaxPrefixAction, Neighbor, NextHopMode, Passive, Peer, RemoteAsn,
    RestartMode, Source, Timers, Ttl,
};
use bgp_speaker::session::{ConnId, Direction, Endpoints, Event, LocalSpeaker, Session, State, StopReason};
use bgp_speaker::wire::{self, Codec};
use libfuzzer_sys::fuzz_target;

fn peer(choice: u8) -> Peer {
    let max_prefix = MaxPrefix { limit: 10, warn_at: 80, action: MaxPrefixAction::Restart };
    let family = |afi_safi| Family { afi_safi, extended_next_hop: choice & 1 == 0, max_prefix };
    Peer {
        name: "fuzz".into(),
        neighbor: Neighbor::Address { address: IpAddr::from([192, 0, 2, 9]), interface: None },
        port: 179,
        local_asn: 65_001,
        remote_asn: if choice & 2 == 0 { RemoteAsn::Any } else { RemoteAsn::Number(65_002) },
        source: Source::Kernel,
        bind_interface: None,
        md5: None,
        timers: Timers {
            hold: Duration::from_secs(if choice & 4 == 0 { 90 } else { 0 }),
            keepalive: Duration::from_secs(30),
            connect_retry: Duration::from_secs(5),
            idle_hold_max: Duration::from_secs(60),
        },
        ttl: Ttl::Multihop(1),
        passive: match choice >> 3 & 3 {
            0 | 1 => Passive::Auto,
            2 => Passive::Always,
            _ => Passive::Never,
        },
        graceful_restart: GracefulRestart {
            mode: match choice >> 5 & 3 {
                0 | 1 => RestartMode::Restarter,
                2 => RestartMode::Helper,
                _ => RestartMode::Disabled,
            },
            restart_time: Duration::from_secs(120),
            stale_path_time: Duration::from_secs(360),
        },
        families: vec![family(AfiSafi::Ipv4Unicast), family(AfiSafi::Ipv6Unicast)],
        next_hop: NextHopMode::Auto,
        allow_local_as: 0,
        enforce_first_as: true,
        paused: None,
    }
}

/// Two octets an event, and for a message its octets as a frame would carry them.
fn event(kind: u8, value: u8, rest: &mut &[u8]) -> Option<Event> {
    let connection = ConnId(u64::from(value & 3));
    let endpoint = |last| SocketAddr::from((Ipv4Addr::new(192, 0, 2, last), 179));
    let endpoints = Endpoints { local: endpoint(1), remote: endpoint(9), ifindex: Some(2) };
    Some(match kind % 12 {
        0 => Event::Start,
        1 => Event::Stop(StopReason::AdminShutdown("bye".into())),
        2 => Event::Stop(StopReason::AdminReset(String::new())),
        3 => Event::Stop(StopReason::ProcessStops),
        4 => Event::Stop(StopReason::LinkDown("eth0".into())),
        5 => Event::Connected(connection, Direction::Outgoing, endpoints),
        6 => Event::Connected(connection, Direction::Incoming, endpoints),
        7 => Event::ConnectFailed("refused".into()),
        8 => Event::Closed(connection, "closed".into()),
        9 => Event::Wrote(connection),
        10 => Event::Deadline,
        _ => {
            let length = usize::from(value).min(rest.len());
            let (body, after) = rest.split_at(length);
            *rest = after;
            let mut frame = vec![0xff; 16];
            frame.extend(((19 + body.len().saturating_sub(1)) as u16).to_be_bytes());
            frame.extend(body);
            match wire::decode(&frame, &Codec::before_open()) {
                Ok(message) => Event::Message(connection, message),
                Err(error) => Event::Malformed(connection, error),
            }
        }
    })
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, mut rest)) = data.split_first() else { return };
    let local = LocalSpeaker {
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        host_name: "fuzz".into(),
        restarting: choice & 128 != 0,
        forwarding_preserved: vec![AfiSafi::Ipv4Unicast],
    };
    let mut session = Session::new(peer(choice), local, 1);
    let mut now = Instant::now();
    while let &[kind, value, ref after @ ..] = rest {
        rest = after;
        if let Some(event) = event(kind, value, &mut rest) {
            now += Duration::from_millis(u64::from(value) * 50);
            session.handle(now, event);
        }
        let waits = matches!(session.state(), State::OpenSent | State::OpenConfirm);
        assert!(!waits || session.deadline().is_some(), "{:?} without a deadline", session.state());
    }
});
