//! Hostile and malformed UPDATEs over the public door of `wire`: the reaction RFC 7606 asks for, and never
//! a panic, a loop or memory without a bound.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy allows it in test functions only")]

use bgp_speaker::wire::{
    AfiSafi, Codec, ErrorCode, FaultAction, FrameReader, HEADER_LEN, Message, MessageError, Update, decode,
    encode,
};
use bytes::BytesMut;
use hex_literal::hex;
use proptest::prelude::*;

/// Messages without the marker, in hexadecimal, that made another decoder panic, loop or allocate without a
/// bound; one for each place. Found by a structure-aware fuzzer and made minimal.
const HOSTILE: &str = include_str!("hostile.txt");

/// ORIGIN IGP, AS_PATH 65001, NEXT_HOP 10.0.0.1: complete for an external peer.
const MANDATORY: &[u8] = &hex!("40010100" "400206 0201 0000fde9" "400304 0a000001");
/// ORIGIN and AS_PATH only.
const NO_NEXT_HOP: &[u8] = &hex!("40010100" "400206 0201 0000fde9");
const PREFIX: &[u8] = &hex!("18 0a0100");

fn external() -> Codec {
    Codec {
        four_octet_as: true,
        families: vec![AfiSafi::Ipv4Unicast, AfiSafi::Ipv6Unicast],
        ..Codec::before_open()
    }
}

fn internal() -> Codec {
    Codec { ebgp: false, ..external() }
}

fn two_octet() -> Codec {
    Codec { four_octet_as: false, ..external() }
}

fn codecs() -> Vec<Codec> {
    vec![
        Codec::before_open(),
        external(),
        internal(),
        two_octet(),
        Codec { extended_message: true, extended_nexthop_v4: true, ..external() },
    ]
}

fn with_marker(rest: &[u8]) -> Vec<u8> {
    [&[0xff; 16], rest].concat()
}

fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = u16::try_from(withdrawn.len()).unwrap().to_be_bytes().to_vec();
    body.extend(withdrawn);
    body.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    body.extend(attributes);
    body.extend(nlri);
    message(2, &body)
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER_LEN + body.len()).unwrap().to_be_bytes();
    with_marker(&[&length[..], &[kind], body].concat())
}

fn read(frame: &[u8], codec: &Codec) -> Result<Update, MessageError> {
    match decode(frame, codec)? {
        Message::Update(update) => Ok(update),
        other => panic!("not an UPDATE: {other:?}"),
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Taken without a fault.
    Accept,
    /// Taken without the attribute.
    Discard,
    /// Withdrawn.
    Withdraw,
    /// The session ends with 3 and this subcode.
    Reset(u8),
}
use Verdict::{Accept, Discard, Reset, Withdraw};

fn verdict(frame: &[u8], codec: &Codec) -> Verdict {
    let update = match read(frame, codec) {
        Ok(update) => update,
        Err(error) => {
            assert_eq!(error.code, ErrorCode::Update);
            return Reset(error.subcode);
        }
    };
    match update.faults.iter().map(|fault| fault.action).max() {
        None => Accept,
        Some(FaultAction::DiscardAttribute) => {
            assert!(update.attributes.is_some(), "routes are taken");
            Discard
        }
        Some(FaultAction::TreatAsWithdraw) => {
            assert!(update.reach.is_empty() && update.attributes.is_none() && !update.unreach.is_empty());
            Withdraw
        }
    }
}

#[test]
fn malformed_attributes_follow_rfc_7606() {
    let many = |count: usize, header: &[u8], entry: &[u8]| {
        let length = u16::try_from(count * entry.len()).unwrap().to_be_bytes();
        [header, &length, &entry.repeat(count)].concat()
    };
    let communities = |count| many(count, &hex!("d0 08"), &[0, 1, 0, 1]);
    let cases: &[(&str, Vec<u8>, Verdict)] = &[
        ("MULTI_EXIT_DISC", hex!("800404 00000001").to_vec(), Accept),
        ("MULTI_EXIT_DISC of 3 octets", hex!("800403 000001").to_vec(), Withdraw),
        ("MULTI_EXIT_DISC of 5 octets", hex!("800405 0000000001").to_vec(), Withdraw),
        ("MULTI_EXIT_DISC as transitive", hex!("c00404 00000001").to_vec(), Withdraw),
        ("LOCAL_PREF from outside", hex!("400504 00000064").to_vec(), Discard),
        ("LOCAL_PREF from outside, malformed", hex!("400501 00").to_vec(), Discard),
        ("ATOMIC_AGGREGATE", hex!("400600").to_vec(), Accept),
        ("ATOMIC_AGGREGATE of 1 octet", hex!("400601 00").to_vec(), Discard),
        ("ATOMIC_AGGREGATE as optional", hex!("c00600").to_vec(), Withdraw),
        ("AGGREGATOR", hex!("c00708 0000fde9 0a000001").to_vec(), Accept),
        ("AGGREGATOR of 6 octets", hex!("c00706 fde9 0a000001").to_vec(), Discard),
        ("AGGREGATOR of 3 octets", hex!("c00703 000001").to_vec(), Discard),
        ("AGGREGATOR with AS 0", hex!("c00708 00000000 0a000001").to_vec(), Discard),
        ("COMMUNITIES", hex!("c00804 fde90001").to_vec(), Accept),
        ("COMMUNITIES with Partial", hex!("e00804 fde90001").to_vec(), Accept),
        ("COMMUNITIES of 0 octets", hex!("c00800").to_vec(), Withdraw),
        ("COMMUNITIES of 5 octets", hex!("c00805 fde9000100").to_vec(), Withdraw),
        ("COMMUNITIES as non-transitive", hex!("800804 fde90001").to_vec(), Withdraw),
        ("800 COMMUNITIES", communities(800), Accept),
        ("ORIGINATOR_ID from outside", hex!("800904 0a000001").to_vec(), Discard),
        ("CLUSTER_LIST from outside", hex!("800a04 0a000001").to_vec(), Discard),
        ("EXTENDED_COMMUNITIES", hex!("c01008 0002fde900000001").to_vec(), Accept),
        ("EXTENDED_COMMUNITIES of 0 octets", hex!("c01000").to_vec(), Withdraw),
        ("EXTENDED_COMMUNITIES of 9 octets", hex!("c01009 0002fde90000000100").to_vec(), Withdraw),
        ("AS4_PATH on a 4-octet session", hex!("c01106 0201 0000fde9").to_vec(), Discard),
        ("AS4_AGGREGATOR on a 4-octet session", hex!("c01208 0000fde9 0a000001").to_vec(), Discard),
        ("LARGE_COMMUNITY", hex!("c0200c 0000fde9 00000001 00000002").to_vec(), Accept),
        ("LARGE_COMMUNITY of 0 octets", hex!("c02000").to_vec(), Withdraw),
        ("LARGE_COMMUNITY of 11 octets", hex!("c0200b 0000fde9 00000001 000000").to_vec(), Withdraw),
        ("OTC", hex!("c02304 0000fde9").to_vec(), Accept),
        ("OTC of 3 octets", hex!("c02303 00fde9").to_vec(), Withdraw),
        ("unknown optional transitive", hex!("c06301 07").to_vec(), Accept),
        ("unknown optional non-transitive", hex!("806301 07").to_vec(), Accept),
        ("unknown well-known", hex!("406301 07").to_vec(), Reset(2)),
        ("a second ORIGIN", hex!("40010102").to_vec(), Discard),
        ("a second, malformed ORIGIN", hex!("40010109").to_vec(), Discard),
        ("one octet left", hex!("40").to_vec(), Withdraw),
        ("no length", hex!("4006").to_vec(), Withdraw),
        ("half an extended length", hex!("500600").to_vec(), Withdraw),
        ("past the end", hex!("c008ff 00").to_vec(), Withdraw),
        ("extended length past the end", hex!("d008ffff 00").to_vec(), Withdraw),
        ("MP_REACH_NLRI past the end", hex!("800eff 00").to_vec(), Reset(1)),
        ("MP_REACH_NLRI of 4 octets", hex!("800e04 00020100").to_vec(), Reset(9)),
        ("MP_REACH_NLRI, next hop of 4 octets", hex!("800e09 0002 01 04 0a000001 00").to_vec(), Reset(9)),
        ("MP_REACH_NLRI of another family", hex!("800e05 0019 46 00 00").to_vec(), Discard),
        ("MP_UNREACH_NLRI of 2 octets", hex!("800f02 0002").to_vec(), Reset(9)),
        ("MP_UNREACH_NLRI with a /129", hex!("800f04 0002 01 81").to_vec(), Reset(9)),
        ("MP_UNREACH_NLRI of another family", hex!("800f03 0019 46").to_vec(), Discard),
        ("MP_UNREACH_NLRI twice", hex!("800f03 000201 800f03 000201").to_vec(), Reset(1)),
        ("the strongest fault wins", hex!("400601 00 c00800").to_vec(), Withdraw),
    ];
    for (name, attribute, expected) in cases {
        let frame = update(&[], &[MANDATORY, attribute].concat(), PREFIX);
        assert_eq!(verdict(&frame, &external()), *expected, "{name}");
    }
    let extended = Codec { extended_message: true, ..external() };
    for (count, expected) in [(1000, Accept), (1001, Withdraw)] {
        let frame = update(&[], &[MANDATORY, &communities(count)].concat(), PREFIX);
        assert_eq!(verdict(&frame, &extended), expected, "{count} communities");
    }
}

#[test]
fn malformed_mandatory_attributes_follow_rfc_7606() {
    let (origin, path, next_hop) = (
        &hex!("40010100") as &[u8],
        &hex!("400206 0201 0000fde9") as &[u8],
        &hex!("400304 0a000001") as &[u8],
    );
    let cases: &[(&str, Vec<u8>, Verdict)] = &[
        ("all there", [origin, path, next_hop].concat(), Accept),
        ("in another order", [next_hop, path, origin].concat(), Accept),
        ("none there", Vec::new(), Withdraw),
        ("no ORIGIN", [path, next_hop].concat(), Withdraw),
        ("no AS_PATH", [origin, next_hop].concat(), Withdraw),
        ("no NEXT_HOP", [origin, path].concat(), Withdraw),
        ("ORIGIN of 0 octets", [&hex!("400100"), path, next_hop].concat(), Withdraw),
        ("ORIGIN of 2 octets", [&hex!("400102 0000"), path, next_hop].concat(), Withdraw),
        ("ORIGIN 3", [&hex!("400101 03"), path, next_hop].concat(), Withdraw),
        ("ORIGIN as optional", [&hex!("c00101 00"), path, next_hop].concat(), Withdraw),
        ("ORIGIN with low flag bits", [&hex!("4f01 0001 00") as &[u8], path, next_hop].concat(), Withdraw),
        ("ORIGIN with an extended length", [&hex!("5001 0001 00") as &[u8], path, next_hop].concat(), Accept),
        ("empty AS_PATH", [origin, &hex!("400200"), next_hop].concat(), Accept),
        ("AS_PATH segment type 0", [origin, &hex!("400206 0001 0000fde9"), next_hop].concat(), Withdraw),
        ("AS_PATH confederation", [origin, &hex!("400206 0301 0000fde9"), next_hop].concat(), Withdraw),
        ("AS_PATH with AS 0", [origin, &hex!("400206 0201 00000000"), next_hop].concat(), Withdraw),
        ("AS_PATH, empty segment", [origin, &hex!("400202 0200"), next_hop].concat(), Withdraw),
        ("AS_PATH, one octet left", [origin, &hex!("400207 0201 0000fde9 02"), next_hop].concat(), Withdraw),
        ("AS_PATH of 2-octet AS numbers", [origin, &hex!("400204 0201 fde9"), next_hop].concat(), Withdraw),
        ("AS_PATH as optional", [origin, &hex!("c00200"), next_hop].concat(), Withdraw),
        ("NEXT_HOP of 3 octets", [origin, path, &hex!("400303 0a0000")].concat(), Withdraw),
        ("NEXT_HOP of 16 octets", [origin, path, &hex!("400310"), &[1; 16]].concat(), Withdraw),
        ("NEXT_HOP 0.0.0.0", [origin, path, &hex!("400304 00000000")].concat(), Withdraw),
        ("NEXT_HOP 127.0.0.1", [origin, path, &hex!("400304 7f000001")].concat(), Withdraw),
        ("NEXT_HOP 224.0.0.1", [origin, path, &hex!("400304 e0000001")].concat(), Withdraw),
        ("NEXT_HOP as optional", [origin, path, &hex!("c00304 0a000001")].concat(), Withdraw),
    ];
    for (name, attributes, expected) in cases {
        assert_eq!(verdict(&update(&[], attributes, PREFIX), &external()), *expected, "{name}");
    }
}

#[test]
fn attributes_of_internal_peers_are_checked_too() {
    let cases: &[(&str, &[u8], Verdict)] = &[
        ("LOCAL_PREF", &hex!("400504 00000064"), Accept),
        ("LOCAL_PREF of 3 octets", &hex!("400503 000064"), Withdraw),
        ("LOCAL_PREF as optional", &hex!("c00504 00000064"), Withdraw),
        ("ORIGINATOR_ID", &hex!("800904 0a000001"), Accept),
        ("ORIGINATOR_ID of 5 octets", &hex!("800905 0a00000100"), Withdraw),
        ("CLUSTER_LIST", &hex!("800a08 0a000001 0a000002"), Accept),
        ("CLUSTER_LIST of 0 octets", &hex!("800a00"), Withdraw),
        ("CLUSTER_LIST of 6 octets", &hex!("800a06 0a000001 0a00"), Withdraw),
    ];
    for (name, attribute, expected) in cases {
        let frame = update(&[], &[MANDATORY, attribute].concat(), PREFIX);
        assert_eq!(verdict(&frame, &internal()), *expected, "{name}");
    }
}

#[test]
fn fields_and_prefixes_that_cannot_be_read_end_the_session() {
    let cases: &[(&str, Vec<u8>, Verdict)] = &[
        ("withdrawn routes past the end", message(2, &hex!("0005 0000")), Reset(1)),
        ("attributes past the end", message(2, &hex!("0000 0001")), Reset(1)),
        ("withdrawn /33", update(&hex!("21 0a00000000"), &[], &[]), Reset(10)),
        ("withdrawn prefix cut short", update(&hex!("18 0a"), &[], &[]), Reset(10)),
        ("announced /33", update(&[], MANDATORY, &hex!("21 0a00000000")), Reset(10)),
        ("announced prefix cut short", update(&[], MANDATORY, &hex!("18 0a")), Reset(10)),
        ("a broken attribute and no prefix", update(&[], &hex!("c00800"), &[]), Reset(1)),
        ("attributes cut short and no prefix", update(&[], &hex!("40"), &[]), Reset(1)),
    ];
    for (name, frame, expected) in cases {
        assert_eq!(verdict(frame, &external()), *expected, "{name}");
    }
}

#[test]
fn the_notification_quotes_the_attribute() {
    let frame = update(&[], &[MANDATORY, &hex!("406301 07")].concat(), PREFIX);
    assert_eq!(read(&frame, &external()).unwrap_err().data, hex!("406301 07"));
    let frame = update(&[], &[MANDATORY, &hex!("800e04 00020100")].concat(), PREFIX);
    assert_eq!(read(&frame, &external()).unwrap_err().data, hex!("800e04 00020100"));
}

#[test]
fn a_withdrawn_message_names_every_prefix_it_carried() {
    let reach = hex!("800e1a 0002 01 10 20010db8000000000000000000000001 00 20 20010db8");
    let attributes = [&reach[..], MANDATORY, &hex!("c00800")].concat();
    let got = read(&update(&hex!("18 0a0200"), &attributes, PREFIX), &external()).unwrap();
    let mut prefixes: Vec<String> =
        got.unreach.iter().flat_map(|nlri| nlri.iter()).map(|p| p.to_string()).collect();
    prefixes.sort();
    assert_eq!(prefixes, ["10.1.0.0/24", "10.2.0.0/24", "2001:db8::/32"]);
    assert_eq!(got.unreach.len(), 2, "one entry for each family");
    assert!(got.reach.is_empty());
}

#[test]
fn mp_reach_with_a_useless_next_hop_is_withdrawn() {
    let useless = hex!("800e1a 0002 01 10 00000000000000000000000000000001 00 20 20010db8");
    let got = read(&update(&[], &[&useless, NO_NEXT_HOP].concat(), &[]), &external()).unwrap();
    assert_eq!((got.reach.len(), got.unreach.len(), got.faults.len()), (0, 1, 1));
    let wrong_flags = hex!("c00e1a 0002 01 10 20010db8000000000000000000000001 00 20 20010db8");
    let got = read(&update(&[], &[&wrong_flags, NO_NEXT_HOP].concat(), &[]), &external()).unwrap();
    assert_eq!((got.reach.len(), got.unreach.len(), got.faults.len()), (0, 1, 1));
}

#[test]
fn prefixes_of_a_family_the_session_does_not_carry_are_ignored() {
    let ipv6_only = Codec { families: vec![AfiSafi::Ipv6Unicast], ..external() };
    let got = read(&update(&[], MANDATORY, PREFIX), &ipv6_only).unwrap();
    assert_eq!((got.reach.len(), got.unreach.len(), got.faults.len()), (0, 0, 1));
    // A fault on top of that is no reason to end the session: the prefixes were found.
    let got = read(&update(&[], &[MANDATORY, &hex!("c00800")].concat(), PREFIX), &ipv6_only).unwrap();
    assert_eq!((got.reach.len(), got.unreach.len()), (0, 0));
}

#[test]
fn end_of_rib_is_told_from_an_empty_withdrawal() {
    let end_of_rib = |frame: &[u8], codec: &Codec| read(frame, codec).unwrap().end_of_rib;
    let empty = update(&[], &[], &[]);
    let ipv6 = update(&[], &hex!("800f03 000201"), &[]);
    assert_eq!(end_of_rib(&empty, &external()), Some(AfiSafi::Ipv4Unicast));
    assert_eq!(end_of_rib(&ipv6, &external()), Some(AfiSafi::Ipv6Unicast));
    assert_eq!(
        end_of_rib(&update(&[], &hex!("900f0003 000201"), &[]), &external()),
        Some(AfiSafi::Ipv6Unicast)
    );
    assert_eq!(
        end_of_rib(&update(&[], &hex!("800f03 000101"), &[]), &external()),
        Some(AfiSafi::Ipv4Unicast)
    );
    assert_eq!(end_of_rib(&update(PREFIX, &hex!("800f03 000201"), &[]), &external()), None);
    assert_eq!(
        end_of_rib(&update(&[], &[MANDATORY, &hex!("800f03 000201")].concat(), &[]), &external()),
        None
    );
    assert_eq!(end_of_rib(&update(&[], &hex!("800f08 000201 20 20010db8"), &[]), &external()), None);
    let ipv4_only = Codec { families: vec![AfiSafi::Ipv4Unicast], ..external() };
    assert_eq!(end_of_rib(&ipv6, &ipv4_only), None);
}

#[test]
fn the_block_is_canonical_whatever_way_the_attributes_came() {
    let plain = [MANDATORY, &hex!("800404 00000005 c00804 fde90001 e06301 07")].concat();
    let odd = hex!(
        "c06301 07" "d008 0004 fde90001" "a00404 00000005" "4003 04 0a000002"
        "6002 06 0201 0000fde9" "5001 0001 00" "807701 00"
    );
    let block = |attributes: &[u8]| {
        read(&update(&[], attributes, PREFIX), &external()).unwrap().attributes.unwrap().block().to_vec()
    };
    assert_eq!(block(&plain), block(&odd));
    let expected = hex!("40010100" "400206 0201 0000fde9" "800404 00000005" "c00804 fde90001" "e06301 07");
    assert_eq!(block(&plain), expected);
}

#[test]
fn a_repeated_large_community_is_kept_once() {
    let attribute = hex!("c02024 000000010000000200000003 000000040000000500000006 000000010000000200000003");
    let got = read(&update(&[], &[MANDATORY, &attribute].concat(), PREFIX), &external()).unwrap();
    let attributes = got.attributes.unwrap();
    assert_eq!(attributes.large_communities().collect::<Vec<_>>(), [[1, 2, 3], [4, 5, 6]]);
}

#[test]
fn a_two_octet_peer_s_as4_attributes_are_merged() {
    let cases: &[(&str, &[u8], &str, Option<u32>)] = &[
        ("neither", &hex!("400206 0202 fde9 5ba0"), "65001 23456", None),
        ("AS4_PATH", &hex!("400206 0202 fde9 5ba0 c01106 0201 00011170"), "65001 70000", None),
        ("AS4_PATH too long", &hex!("400204 0201 fde9 c0110a 0202 00011170 00011170"), "65001", None),
        ("AS4_PATH malformed", &hex!("400206 0202 fde9 5ba0 c01105 0201 000111"), "65001 23456", None),
        ("AS4_PATH with AS 0", &hex!("400206 0202 fde9 5ba0 c01106 0201 00000000"), "65001 23456", None),
        (
            "AS4_PATH with a confederation segment",
            &hex!("400206 0202 fde9 5ba0 c0110c 0301 00000001 0201 00011170"),
            "65001 70000",
            None,
        ),
        (
            "AS4_AGGREGATOR",
            &hex!("400204 0201 5ba0 c00706 5ba0 0a000001 c01106 0201 00011170 c01208 00011170 0a000001"),
            "70000",
            Some(70000),
        ),
        (
            "a 2-octet speaker aggregated later",
            &hex!("400204 0201 5ba0 c00706 0007 0a000001 c01106 0201 00011170 c01208 00011170 0a000001"),
            "23456",
            Some(7),
        ),
        ("AS4_AGGREGATOR alone", &hex!("400204 0201 0007 c01208 00011170 0a000001"), "7", None),
    ];
    for (name, attributes, path, aggregator) in cases {
        let attributes = [&hex!("40010100")[..], *attributes, &hex!("400304 0a000001")].concat();
        let got = read(&update(&[], &attributes, PREFIX), &two_octet()).unwrap().attributes.unwrap();
        assert_eq!(got.as_path().to_string(), *path, "{name}");
        assert_eq!(got.aggregator().map(|(asn, _)| asn), *aggregator, "{name}");
    }
}

#[test]
fn faults_are_bounded_and_say_what_was_wrong() {
    let attributes = [MANDATORY, &hex!("40010100").repeat(500)].concat();
    let got = read(&update(&[], &attributes, PREFIX), &external()).unwrap();
    assert_eq!(got.faults.len(), 16);
    assert_eq!(
        got.faults[0].to_string(),
        "ORIGIN: it came before, the first one counts (attribute discarded)"
    );
    let got = read(&update(&[], &[MANDATORY, &hex!("800403 000001")].concat(), PREFIX), &external()).unwrap();
    assert_eq!(got.faults[0].to_string(), "MULTI_EXIT_DISC: length 3 instead of 4 (routes withdrawn)");
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn inputs_that_broke_another_decoder_are_answered() {
    assert_eq!(HOSTILE.lines().count(), 64);
    for input in HOSTILE.lines() {
        let frame = with_marker(&from_hex(input));
        for codec in codecs() {
            assert_sends_on(&frame, &codec);
        }
    }
}

/// Cuts and reads a stream as a peer task does; ends at the first error.
fn read_stream(octets: &[u8], codec: &Codec) -> usize {
    let mut reader = FrameReader::with_capacity(64);
    reader.buffer().extend_from_slice(octets);
    let mut messages = 0;
    while let Ok(Some(frame)) = reader.next(codec) {
        messages += 1;
        if decode(&frame, codec).is_err() {
            break;
        }
    }
    messages
}

/// What was taken from foreign octets can be sent on and means the same.
fn assert_sends_on(frame: &[u8], codec: &Codec) {
    let Ok(mut message) = decode(frame, codec) else { return };
    if let Message::Update(update) = &mut message {
        update.faults.clear();
    }
    let mut out = BytesMut::new();
    if encode(&message, codec, &mut out).is_ok() {
        assert_eq!(decode(&out, codec).as_ref(), Ok(&message));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_octets_are_answered(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        for codec in codecs() {
            read_stream(&octets, &codec);
            let _ = decode(&octets, &codec).is_ok();
            for kind in 1..=5 {
                assert_sends_on(&message(kind, &octets), &codec);
            }
        }
    }

    #[test]
    fn any_attributes_between_good_lengths_are_answered(
        attributes in proptest::collection::vec(
            (any::<u8>(), 0_u8..40, proptest::collection::vec(any::<u8>(), 0..40)),
            0..12,
        ),
        nlri in proptest::collection::vec(any::<u8>(), 0..12),
    ) {
        let mut octets = Vec::new();
        for (flags, code, value) in &attributes {
            octets.extend([flags & 0xef, *code, u8::try_from(value.len()).unwrap()]);
            octets.extend(value);
        }
        for codec in codecs() {
            assert_sends_on(&update(&[], &octets, &nlri), &codec);
            assert_sends_on(&update(&[], &[MANDATORY, &octets].concat(), PREFIX), &codec);
        }
    }

    #[test]
    fn a_changed_octet_in_a_hostile_input_is_answered(
        which in 0..HOSTILE.lines().count(),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let mut octets = from_hex(HOSTILE.lines().nth(which).unwrap());
        let at = at.index(octets.len());
        octets[at] = value;
        let frame = with_marker(&octets);
        for codec in codecs() {
            read_stream(&frame, &codec);
            // Also with the length put right, so that the change is not lost in the header.
            let body = frame.get(HEADER_LEN..).unwrap_or_default();
            assert_sends_on(&message(2, body), &codec);
        }
    }
}
