//! Properties over all messages: what is encoded is decoded equal, and routes survive packing and export.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::BytesMut;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::open::GracefulRestartCapability;
use super::update::{encode_end_of_rib, encode_reach, encode_unreach};
use super::*;

pub(super) fn codec() -> Codec {
    Codec {
        four_octet_as: true,
        extended_message: false,
        families: vec![AfiSafi::Ipv4Unicast, AfiSafi::Ipv6Unicast],
        extended_nexthop_v4: true,
        ebgp: false,
    }
}

fn any_codec() -> impl Strategy<Value = Codec> {
    (any::<bool>(), any::<bool>()).prop_map(|(four_octet_as, extended_message)| Codec {
        four_octet_as,
        extended_message,
        ..codec()
    })
}

fn capability() -> impl Strategy<Value = Capability> {
    let restart =
        (any::<bool>(), any::<bool>(), 0..4096_u16, vec((any::<u16>(), any::<u8>(), any::<bool>()), 0..4))
            .prop_map(|(restarting, notification, restart_time, families)| {
                Capability::GracefulRestart(GracefulRestartCapability {
                    restarting,
                    notification,
                    restart_time,
                    families,
                })
            });
    prop_oneof![
        (any::<u16>(), any::<u8>()).prop_map(|(afi, safi)| Capability::MultiProtocol { afi, safi }),
        Just(Capability::RouteRefresh),
        vec(any::<(u16, u16, u16)>(), 0..4).prop_map(Capability::ExtendedNextHop),
        Just(Capability::ExtendedMessage),
        restart,
        Just(Capability::EnhancedRouteRefresh),
        ("[a-zé-]{0,40}", "[a-z.]{0,40}").prop_map(|(host, domain)| Capability::Fqdn { host, domain }),
        (128..=255_u8, vec(any::<u8>(), 0..80)).prop_map(|(code, value)| Capability::Unknown { code, value }),
    ]
}

fn open() -> impl Strategy<Value = Message> {
    let capabilities = vec(capability(), 0..20);
    (1..=u32::MAX, any::<u16>(), 1..=u32::MAX, capabilities, any::<bool>()).prop_map(
        |(asn, hold_time, router_id, mut capabilities, four_octet)| {
            if four_octet || asn > 65535 {
                capabilities.insert(0, Capability::FourOctetAs(asn));
            }
            Message::Open(Open { asn, hold_time, router_id: Ipv4Addr::from(router_id), capabilities })
        },
    )
}

fn ipv4_net() -> impl Strategy<Value = Ipv4Net> {
    (any::<[u8; 4]>(), 0..=32_u8)
        .prop_map(|(octets, length)| Ipv4Net::new(octets.into(), length).unwrap().trunc())
}

fn ipv6_net() -> impl Strategy<Value = Ipv6Net> {
    (any::<[u8; 16]>(), 0..=128_u8)
        .prop_map(|(octets, length)| Ipv6Net::new(octets.into(), length).unwrap().trunc())
}

fn ipv4_nexthop() -> impl Strategy<Value = Nexthop> {
    (1..=126_u8, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| IpAddr::from([a, b, c, d]).into())
}

fn ipv6_nexthop() -> impl Strategy<Value = Nexthop> {
    let local = |id: u16| Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, id);
    (any::<u16>(), option::of(any::<u16>()), any::<bool>()).prop_map(move |(id, second, global)| {
        if global {
            let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, id);
            Nexthop { address: address.into(), link_local: second.map(local) }
        } else {
            IpAddr::from(local(id)).into()
        }
    })
}

pub(super) fn attributes() -> impl Strategy<Value = PathAttributes> {
    let origin = prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)];
    let first = (origin, vec(1..=u32::MAX, 0..300), option::of(any::<u32>()), option::of(any::<u32>()));
    let second = (vec(any::<u32>(), 0..20), vec(any::<[u32; 3]>(), 0..5), vec(any::<[u8; 8]>(), 0..5));
    let third = (any::<bool>(), option::of((1..=u32::MAX, any::<u32>())), option::of(any::<u32>()));
    let fourth = (vec(any::<u32>(), 0..4), option::of(any::<u32>()), option::of(vec(any::<u8>(), 0..300)));
    (first, second, third, fourth).prop_map(
        |(
            (origin, path, med, pref),
            (plain, large, ext),
            (atomic, aggregator, id),
            (clusters, otc, unknown),
        )| {
            let clusters: Vec<Ipv4Addr> = clusters.into_iter().map(Ipv4Addr::from).collect();
            let mut builder = AttributesBuilder::default()
                .origin(origin)
                .as_path(&path)
                .med(med)
                .local_pref(pref)
                .communities(&plain)
                .large_communities(&large)
                .ext_communities(&ext)
                .atomic_aggregate(atomic)
                .originator_id(id.map(Ipv4Addr::from))
                .cluster_list(&clusters)
                .otc(otc);
            if let Some((asn, id)) = aggregator {
                builder = builder.aggregator(asn, Ipv4Addr::from(id));
            }
            if let Some(value) = unknown {
                builder = builder.unknown(99, &value);
            }
            builder.build().unwrap()
        },
    )
}

/// In the order [`decode`] gives: MP_REACH_NLRI first, withdrawn IPv4 first.
fn update() -> impl Strategy<Value = Message> {
    let mp = prop_oneof![
        (ipv6_nexthop(), vec(ipv6_net(), 1..30)).prop_map(|(nexthop, nets)| (nexthop, Nlri::V6(nets))),
        (ipv6_nexthop(), vec(ipv4_net(), 1..30)).prop_map(|(nexthop, nets)| (nexthop, Nlri::V4(nets))),
    ];
    let legacy = (ipv4_nexthop(), vec(ipv4_net(), 1..30));
    let unreach = (vec(ipv4_net(), 0..30), vec(ipv6_net(), 0..30));
    (option::of(mp), option::of(legacy), unreach, attributes()).prop_map(
        |(mp, legacy, (v4, v6), attributes)| {
            let mut update = Update::default();
            update.reach.extend(mp.map(|(nexthop, nlri)| Reach { nexthop, nlri }));
            update.reach.extend(legacy.map(|(nexthop, nets)| Reach { nexthop, nlri: Nlri::V4(nets) }));
            update.unreach.extend([Nlri::V4(v4), Nlri::V6(v6)].into_iter().filter(|nlri| !nlri.is_empty()));
            update.attributes = Some(attributes).filter(|_| !update.reach.is_empty());
            if update == Update::default() {
                update.end_of_rib = Some(AfiSafi::Ipv4Unicast);
            }
            Message::Update(update)
        },
    )
}

fn notification() -> impl Strategy<Value = Message> {
    (any::<u8>(), any::<u8>(), vec(any::<u8>(), 0..300)).prop_map(|(code, subcode, data)| {
        Message::Notification(Notification { code: code.into(), subcode, data })
    })
}

fn refresh() -> impl Strategy<Value = Message> {
    let kind = prop_oneof![
        Just(RefreshKind::Request),
        Just(RefreshKind::Begin),
        Just(RefreshKind::End),
        (3..=255_u8).prop_map(RefreshKind::Unknown)
    ];
    (any::<u16>(), any::<u8>(), kind)
        .prop_map(|(afi, safi, kind)| Message::RouteRefresh(RouteRefresh { afi, safi, kind }))
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![open(), update(), notification(), Just(Message::Keepalive), refresh()]
}

/// Every UPDATE in `out`, read back.
fn read_updates(out: &mut BytesMut, codec: &Codec) -> Vec<Update> {
    let mut updates = Vec::new();
    while let Some(frame) = frame::next(out, codec).unwrap() {
        match decode(&frame, codec).unwrap() {
            Message::Update(update) => updates.push(update),
            other => panic!("not an UPDATE: {other:?}"),
        }
    }
    assert!(out.is_empty(), "whole messages only");
    updates
}

/// Routes without any rule.
fn write(
    attributes: &PathAttributes,
    nexthop: &Nexthop,
    nets: &[IpNet],
    codec: &Codec,
    out: &mut BytesMut,
) -> Result<usize, EncodeError> {
    encode_reach(attributes, &ExportRules::default(), nexthop, nets, codec, out, &mut Places::new())
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_equal(message in message(), codec in any_codec()) {
        let mut out = BytesMut::new();
        encode(&message, &codec, &mut out).unwrap();
        let frame = frame::next(&mut out, &codec).unwrap().unwrap();
        prop_assert!(out.is_empty());
        prop_assert_eq!(decode(&frame, &codec).unwrap(), message);
    }

    #[test]
    fn packed_routes_come_back_in_order(
        nets in prop_oneof![
            vec(ipv4_net().prop_map(IpNet::V4), 1..3000),
            vec(ipv6_net().prop_map(IpNet::V6), 1..1000),
        ],
        v6_nexthop in ipv6_nexthop(),
        v4_nexthop in ipv4_nexthop(),
        mp in any::<bool>(),
        attributes in attributes(),
        codec in any_codec(),
    ) {
        let ipv4 = matches!(nets[0], IpNet::V4(_));
        let nexthop = if ipv4 && !mp { v4_nexthop } else { v6_nexthop };
        let mut out = BytesMut::new();
        let messages = write(&attributes, &nexthop, &nets, &codec, &mut out).unwrap();
        let updates = read_updates(&mut out, &codec);
        prop_assert_eq!(updates.len(), messages);
        let mut back = Vec::new();
        for update in &updates {
            prop_assert_eq!(update.attributes.as_ref(), Some(&attributes));
            prop_assert!(update.faults.is_empty() && update.unreach.is_empty());
            for reach in &update.reach {
                prop_assert_eq!(reach.nexthop, nexthop);
                back.extend(reach.nlri.iter());
            }
        }
        prop_assert_eq!(&back, &nets);

        let family = if ipv4 { AfiSafi::Ipv4Unicast } else { AfiSafi::Ipv6Unicast };
        let messages = encode_unreach(family, &nets, &codec, &mut out).unwrap();
        let updates = read_updates(&mut out, &codec);
        prop_assert_eq!(updates.len(), messages);
        let back: Vec<IpNet> = updates.iter().flat_map(|u| &u.unreach).flat_map(|nlri| nlri.iter()).collect();
        prop_assert_eq!(back, nets);
    }
}

#[test]
fn messages_are_filled_to_the_last_octet() {
    let attributes = AttributesBuilder::default().as_path(&[1]).build().unwrap();
    let nets: Vec<IpNet> = (0..2000_u32).map(|n| Ipv4Net::new((n << 8).into(), 24).unwrap().into()).collect();
    let nexthop = Nexthop::from(IpAddr::from([10, 0, 0, 1]));
    let mut out = BytesMut::new();
    let count = write(&attributes, &nexthop, &nets, &codec(), &mut out).unwrap();
    let first = frame::next(&mut out, &codec()).unwrap().unwrap();
    assert!(first.len() > MAX_MESSAGE - 4, "{} octets", first.len());
    assert_eq!(count, 2);
    let extended = Codec { extended_message: true, ..codec() };
    out.clear();
    let count = write(&attributes, &nexthop, &nets, &extended, &mut out).unwrap();
    assert_eq!(count, 1);
}

#[test]
fn mp_reach_comes_first_in_the_message() {
    let attributes = AttributesBuilder::default().build().unwrap();
    let nexthop = Nexthop::from(IpAddr::from([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]));
    let net = "10.0.0.0/8".parse().unwrap();
    let mut out = BytesMut::new();
    write(&attributes, &nexthop, &[net], &codec(), &mut out).unwrap();
    assert_eq!(out.get(23..28), Some(&[0x90, 14, 0, 23, 0][..]));
}

#[test]
fn what_cannot_be_sent_is_refused_and_nothing_is_written() {
    let small = AttributesBuilder::default().build().unwrap();
    let large = AttributesBuilder::default().communities(&[1; 1020]).build().unwrap();
    let (v4, v6): (IpNet, IpNet) = ("10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap());
    let v4_nexthop = Nexthop::from(IpAddr::from([10, 0, 0, 1]));
    let v6_nexthop = Nexthop::from(IpAddr::from(Ipv6Addr::LOCALHOST));
    let plain = Codec { extended_nexthop_v4: false, ..codec() };
    let mut out = BytesMut::new();
    let mut refused = |attributes: &PathAttributes, nexthop: &Nexthop, nets: &[IpNet]| {
        let error = write(attributes, nexthop, nets, &plain, &mut out).unwrap_err();
        assert!(out.is_empty());
        error
    };
    let too_long = refused(&large, &v4_nexthop, &[v4]);
    assert!(matches!(too_long, EncodeError::AttributesTooLong { max: MAX_MESSAGE, .. }), "{too_long}");
    let mixed = refused(&small, &v4_nexthop, &[v4, v6]);
    assert!(matches!(mixed, EncodeError::OtherFamily { prefix, .. } if prefix == v6), "{mixed}");
    for (nexthop, net) in [(v4_nexthop, v6), (v6_nexthop, v4)] {
        let error = refused(&small, &nexthop, &[net]);
        assert!(matches!(error, EncodeError::NexthopFamily { .. }), "{error}");
    }
    assert!(encode_unreach(AfiSafi::Ipv4Unicast, &[v6], &plain, &mut out).is_err());
    assert!(out.is_empty());
}

#[test]
fn a_route_is_refused_before_its_message_would_overflow() {
    let nets: Vec<IpNet> = vec!["0.0.0.0/0".parse().unwrap(), "10.0.0.1/32".parse().unwrap()];
    let nexthop = Nexthop::from(IpAddr::from([10, 0, 0, 1]));
    for length in 4020..4070 {
        let attributes = AttributesBuilder::default().unknown(99, &vec![0; length]).build().unwrap();
        let mut out = BytesMut::new();
        match write(&attributes, &nexthop, &nets, &codec(), &mut out) {
            Ok(_) => {
                assert_eq!(read_updates(&mut out, &codec()).iter().map(|u| u.reach.len()).max(), Some(1))
            }
            Err(error) => {
                assert!(matches!(error, EncodeError::AttributesTooLong { .. }), "{length}: {error}");
                assert!(out.is_empty());
            }
        }
    }
}

#[test]
fn end_of_rib_is_read_back() {
    for family in [AfiSafi::Ipv4Unicast, AfiSafi::Ipv6Unicast] {
        let mut out = BytesMut::new();
        encode_end_of_rib(family, &mut out);
        let expected = Update { end_of_rib: Some(family), ..Update::default() };
        assert_eq!(read_updates(&mut out, &codec()), [expected]);
    }
}

#[test]
fn capabilities_over_255_octets_use_the_extended_format() {
    // Two octets each for the parameter's and the capability's own head.
    for (octets, extended) in [(251, false), (252, true), (1000, true)] {
        let values = vec![7; octets];
        let capabilities: Vec<Capability> = values
            .chunks(251)
            .map(|value| Capability::Unknown { code: 200, value: value.to_vec() })
            .collect();
        let open =
            Message::Open(Open { asn: 65001, hold_time: 90, router_id: Ipv4Addr::LOCALHOST, capabilities });
        let mut out = BytesMut::new();
        encode(&open, &codec(), &mut out).unwrap();
        assert_eq!(out.get(28..30) == Some(&[255, 255]), extended, "{octets} octets");
        assert_eq!(decode(&out, &codec()), Ok(open));
    }
}

#[test]
fn a_message_that_does_not_fit_is_refused_and_nothing_is_written() {
    let capabilities = vec![Capability::Unknown { code: 200, value: vec![0; 250] }; 17];
    let open = Message::Open(Open { asn: 1, hold_time: 0, router_id: Ipv4Addr::LOCALHOST, capabilities });
    let mut out = BytesMut::from(&b"before"[..]);
    let error = encode(&open, &codec(), &mut out).unwrap_err();
    assert!(matches!(error, EncodeError::MessageTooLong { max: MAX_MESSAGE, .. }), "{error}");
    assert_eq!(out, &b"before"[..]);
}

#[test]
fn a_notification_too_long_for_the_session_keeps_its_code() {
    let long = Notification { data: vec![1; 5000], ..Notification::cease(cease_code()) };
    let mut out = BytesMut::new();
    encode(&Message::Notification(long.clone()), &codec(), &mut out).unwrap();
    let Ok(Message::Notification(back)) = decode(&out, &codec()) else { panic!("not a NOTIFICATION") };
    assert_eq!((back.code, back.subcode, back.data.len()), (long.code, long.subcode, MAX_MESSAGE - 21));
}

fn cease_code() -> u8 {
    notification::cease::OUT_OF_RESOURCES
}

#[test]
fn a_route_refresh_of_a_wrong_length_is_quoted_whole() {
    for length in [19_u8, 22, 24] {
        let mut frame = vec![0xff; 16];
        frame.extend([0, length, 5]);
        frame.resize(length.into(), 0);
        let error = decode(&frame, &codec()).unwrap_err();
        assert_eq!((error.code, error.subcode, &error.data), (ErrorCode::RouteRefresh, 1, &frame));
    }
}

#[test]
fn a_two_octet_session_carries_four_octet_paths_through_as4() {
    let old = Codec { four_octet_as: false, ..codec() };
    let attributes =
        AttributesBuilder::default().as_path(&[70000, 1, 70001]).aggregator(70001, Ipv4Addr::LOCALHOST);
    let attributes = attributes.build().unwrap();
    let nexthop = Nexthop::from(IpAddr::from([10, 0, 0, 1]));
    let mut out = BytesMut::new();
    let rules = ExportRules::external(65000);
    encode_reach(
        &attributes,
        &rules,
        &nexthop,
        &["10.0.0.0/8".parse().unwrap()],
        &old,
        &mut out,
        &mut Places::new(),
    )
    .unwrap();
    let back = read_updates(&mut out, &old).remove(0).attributes.unwrap();
    assert_eq!(back.as_path().to_string(), "65000 70000 1 70001");
    assert_eq!(back.aggregator(), Some((70001, Ipv4Addr::LOCALHOST)));
}
