//! AS_PATH (RFC 4271 sections 4.3 b and 5.1.2, RFC 5065, RFC 6793, RFC 7607).
//!
//! A path stays the octets it came as: type, count, AS numbers. [`AsPath`] reads octets that were checked,
//! with AS numbers of four octets. The functions below check, widen, merge, prepend and narrow them.

use std::borrow::Cow;
use std::fmt;

use super::AS_TRANS;

/// AS numbers in a path that are more than anyone needs: longer paths are withdrawn.
pub const MAX_ASNS: usize = 1000;
/// AS numbers in one segment.
const MAX_SEGMENT: usize = 255;

const SET: u8 = 1;
const SEQUENCE: u8 = 2;

/// Kind of a path segment. Confederation segments never come in: we are in no confederation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// AS_SET: unordered, counts as one.
    Set,
    /// AS_SEQUENCE: the nearest AS first.
    Sequence,
}

/// One segment of a path.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Set or sequence.
    pub kind: SegmentKind,
    asns: &'a [[u8; 4]],
}

impl<'a> Segment<'a> {
    /// The AS numbers, in order.
    pub fn asns(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.asns.iter().map(|octets| u32::from_be_bytes(*octets))
    }

    /// What the segment adds to the length of the path (RFC 4271 section 9.1.2.2 a).
    fn length(&self) -> usize {
        match self.kind {
            SegmentKind::Set => 1,
            SegmentKind::Sequence => self.asns.len(),
        }
    }
}

/// An AS_PATH with AS numbers of four octets.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsPath<'a> {
    octets: &'a [u8],
}

impl<'a> AsPath<'a> {
    /// `octets` have passed [`check`]; what comes after a malformed segment would not be seen.
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Self { octets }
    }

    /// The segments, nearest first.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'a>> + use<'a> {
        let mut rest = self.octets;
        std::iter::from_fn(move || {
            let (kind, asns, tail) = split_segment::<4>(rest)?;
            rest = tail;
            let kind = if kind == SET { SegmentKind::Set } else { SegmentKind::Sequence };
            Some(Segment { kind, asns })
        })
    }

    /// Every AS number, members of sets included.
    pub fn asns(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.segments().flat_map(|segment| segment.asns())
    }

    /// Length for the decision: a set counts one (RFC 4271 section 9.1.2.2 a).
    pub fn length(&self) -> usize {
        self.segments().map(|segment| segment.length()).sum()
    }

    /// True for a route that began in our own AS and has not left it.
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// The neighbour AS: first of a path that begins with a sequence. `None` when empty or begun by a set.
    pub fn first(&self) -> Option<u32> {
        self.segments().next().filter(|s| s.kind == SegmentKind::Sequence)?.asns().next()
    }

    /// The AS the route began in: last of a path that ends with a sequence.
    pub fn last(&self) -> Option<u32> {
        self.segments().last().filter(|s| s.kind == SegmentKind::Sequence)?.asns().last()
    }

    /// How often `asn` appears, for loop detection with an allowed count.
    pub fn contains_count(&self, asn: u32) -> usize {
        self.asns().filter(|&other| other == asn).count()
    }
}

/// `65001 65002 {65003,65004}`
impl fmt::Display for AsPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.segments().enumerate() {
            let (open, separator, close) = match segment.kind {
                SegmentKind::Set => ("{", ",", "}"),
                SegmentKind::Sequence => ("", " ", ""),
            };
            f.write_str(if index == 0 { "" } else { " " })?;
            f.write_str(open)?;
            for (index, asn) in segment.asns().enumerate() {
                write!(f, "{}{asn}", if index == 0 { "" } else { separator })?;
            }
            f.write_str(close)?;
        }
        Ok(())
    }
}

/// Type, AS numbers of `WIDTH` octets, and what follows.
type Split<'a, const WIDTH: usize> = (u8, &'a [[u8; WIDTH]], &'a [u8]);

/// `None` when empty or cut short.
fn split_segment<const WIDTH: usize>(octets: &[u8]) -> Option<Split<'_, WIDTH>> {
    let (&[kind, count], rest) = octets.split_first_chunk::<2>()?;
    let (asns, rest) = rest.split_at_checked(usize::from(count) * WIDTH)?;
    Some((kind, asns.as_chunks().0, rest))
}

/// Checks a received path whose AS numbers have `WIDTH` octets (RFC 7606 section 7.2, RFC 7607).
///
/// # Errors
/// What is wrong, in words.
pub(super) fn check<const WIDTH: usize>(octets: &[u8]) -> Result<(), Cow<'static, str>> {
    let (mut rest, mut total) = (octets, 0);
    while !rest.is_empty() {
        let Some((kind, asns, tail)) = split_segment::<WIDTH>(rest) else {
            return Err("a segment runs past the end".into());
        };
        match kind {
            SET | SEQUENCE => {}
            3 | 4 => return Err("confederation segment from outside a confederation".into()),
            _ => return Err(format!("segment type {kind} is unknown").into()),
        }
        if asns.is_empty() {
            return Err("a segment is empty".into());
        }
        if asns.iter().any(|asn| asn.iter().all(|&octet| octet == 0)) {
            return Err("it contains AS 0".into());
        }
        total += asns.len();
        if total > MAX_ASNS {
            return Err(format!("more than {MAX_ASNS} AS numbers").into());
        }
        rest = tail;
    }
    Ok(())
}

/// Checks that segments fill `octets` exactly, whatever their type.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn check_structure(octets: &[u8]) -> Result<(), Cow<'static, str>> {
    let mut rest = octets;
    while let Some((_, _, tail)) = split_segment::<4>(rest) {
        rest = tail;
    }
    if rest.is_empty() { Ok(()) } else { Err("a segment runs past the end".into()) }
}

/// AS numbers of two octets to four.
pub(super) fn widen(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() * 2);
    let mut rest = octets;
    while let Some((kind, asns, tail)) = split_segment::<2>(rest) {
        out.extend([kind, count(asns.len())]);
        for [high, low] in asns {
            out.extend([0, 0, *high, *low]);
        }
        rest = tail;
    }
    out
}

/// Drops confederation segments of an AS4_PATH, which do not belong there (RFC 6793 section 6).
pub(super) fn without_confederation(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len());
    let mut rest = octets;
    while let Some((kind, asns, tail)) = split_segment::<4>(rest) {
        if !matches!(kind, 3 | 4) {
            out.extend([kind, count(asns.len())]);
            out.extend_from_slice(asns.as_flattened());
        }
        rest = tail;
    }
    out
}

/// AS_PATH and AS4_PATH of a 2-octet peer as one path (RFC 6793 section 4.2.3): as many leading AS numbers
/// of `path` as AS4_PATH lacks, then AS4_PATH. `None`: AS4_PATH is the longer one and is ignored.
pub(super) fn merge(path: &[u8], as4_path: &[u8]) -> Option<Vec<u8>> {
    let mut missing = AsPath::new(path).length().checked_sub(AsPath::new(as4_path).length())?;
    let mut out = Vec::with_capacity(path.len() + as4_path.len());
    for segment in AsPath::new(path).segments() {
        if missing == 0 {
            break;
        }
        match segment.kind {
            SegmentKind::Set => push_segment(&mut out, SET, segment.asns),
            SegmentKind::Sequence => {
                let taken = segment.asns.len().min(missing);
                push_segment(&mut out, SEQUENCE, segment.asns.get(..taken).unwrap_or_default());
            }
        }
        missing -= segment.length().min(missing);
    }
    let mut rest = as4_path;
    // The two sequences were one before the 2-octet speaker: joined again where they fit.
    if let (Some((SEQUENCE, head, [])), Some((SEQUENCE, tail, after))) =
        (split_segment::<4>(&out), split_segment::<4>(as4_path))
        && head.len() + tail.len() <= MAX_SEGMENT
    {
        let joined = [head, tail].concat();
        out.clear();
        push_segment(&mut out, SEQUENCE, &joined);
        rest = after;
    }
    out.extend_from_slice(rest);
    Some(out)
}

/// A path of one sequence, in segments of at most 255.
pub(super) fn sequence(asns: &[u32]) -> Vec<u8> {
    let octets: Vec<[u8; 4]> = asns.iter().map(|asn| asn.to_be_bytes()).collect();
    let mut out = Vec::with_capacity(asns.len() * 4 + 2);
    for segment in octets.chunks(MAX_SEGMENT) {
        push_segment(&mut out, SEQUENCE, segment);
    }
    out
}

/// `asn` put in front `times` times (RFC 4271 section 5.1.2 b): into the first sequence while that has room.
pub(super) fn prepend(path: &[u8], asn: u32, times: u8) -> Vec<u8> {
    let mut own = vec![asn.to_be_bytes(); times.into()];
    let mut rest = path;
    if let Some((SEQUENCE, asns, tail)) = split_segment::<4>(path)
        && own.len() + asns.len() <= MAX_SEGMENT
    {
        own.extend_from_slice(asns);
        rest = tail;
    }
    let mut out = Vec::with_capacity(own.len() * 4 + 2 + rest.len());
    if !own.is_empty() {
        push_segment(&mut out, SEQUENCE, &own);
    }
    out.extend_from_slice(rest);
    out
}

/// AS numbers of four octets to two, AS_TRANS where they do not fit; true when that was needed, so that
/// the path has to travel in AS4_PATH as well (RFC 6793 section 4.2.2).
pub(super) fn narrow(path: &[u8]) -> (Vec<u8>, bool) {
    let (mut out, mut lossy) = (Vec::with_capacity(path.len()), false);
    let mut rest = path;
    while let Some((kind, asns, tail)) = split_segment::<4>(rest) {
        out.extend([kind, count(asns.len())]);
        for asn in asns {
            let (short, cut) = narrow_asn(u32::from_be_bytes(*asn));
            out.extend(short.to_be_bytes());
            lossy |= cut;
        }
        rest = tail;
    }
    (out, lossy)
}

/// One AS number in two octets, and whether AS_TRANS stands for it.
pub(super) fn narrow_asn(asn: u32) -> (u16, bool) {
    u16::try_from(asn).map_or((AS_TRANS, true), |short| (short, false))
}

fn push_segment(out: &mut Vec<u8>, kind: u8, asns: &[[u8; 4]]) {
    out.extend([kind, count(asns.len())]);
    out.extend_from_slice(asns.as_flattened());
}

/// The count field. Callers hold at most [`MAX_SEGMENT`] AS numbers.
fn count(asns: usize) -> u8 {
    u8::try_from(asns).expect("a segment is made of at most 255 AS numbers")
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    fn show(octets: &[u8]) -> String {
        AsPath::new(octets).to_string()
    }

    #[test]
    fn a_path_shows_sequences_and_sets() {
        let octets = hex!("02 02 0000fde9 0000fdea 01 02 0000fdeb 00010000");
        let path = AsPath::new(&octets);
        assert_eq!(path.to_string(), "65001 65002 {65003,65536}");
        assert_eq!((path.length(), path.first(), path.last()), (3, Some(65001), None));
        assert_eq!(path.contains_count(65536), 1);
        assert_eq!(path.contains_count(0), 0);
        assert_eq!(show(&[]), "");
    }

    #[test]
    fn malformed_paths_are_named() {
        let long = sequence(&[1; MAX_ASNS + 1]);
        let cases: &[(&[u8], &str)] = &[
            (&hex!("02"), "a segment runs past the end"),
            (&hex!("02 02 0000fde9"), "a segment runs past the end"),
            (&hex!("02 01 0000fde9 02"), "a segment runs past the end"),
            (&hex!("02 00"), "a segment is empty"),
            (&hex!("05 01 0000fde9"), "segment type 5 is unknown"),
            (&hex!("03 01 0000fde9"), "confederation segment from outside a confederation"),
            (&hex!("04 01 0000fde9"), "confederation segment from outside a confederation"),
            (&hex!("02 01 00000000"), "it contains AS 0"),
            (&long, "more than 1000 AS numbers"),
        ];
        for (octets, expected) in cases {
            assert_eq!(check::<4>(octets).unwrap_err(), *expected);
        }
        assert_eq!(check::<4>(&sequence(&[1; MAX_ASNS])), Ok(()));
        assert_eq!(check::<2>(&hex!("02 01 fde9")), Ok(()));
    }

    #[test]
    fn as4_path_is_merged_as_rfc_6793_says() {
        let trans = u32::from(AS_TRANS);
        type Case = (&'static str, Vec<u8>, Vec<u8>, Option<&'static str>);
        let cases: &[Case] = &[
            ("same length", sequence(&[trans, trans]), sequence(&[70000, 70001]), Some("70000 70001")),
            ("an old speaker prepended", sequence(&[1, 2, trans]), sequence(&[70000]), Some("1 2 70000")),
            ("AS4_PATH is longer", sequence(&[1]), sequence(&[70000, 1]), None),
            ("empty AS4_PATH", sequence(&[1, 2]), Vec::new(), Some("1 2")),
            (
                "a set in front counts one",
                hex!("01 02 00000005 00000006 02 01 00005ba0").to_vec(),
                sequence(&[70000]),
                Some("{5,6} 70000"),
            ),
            (
                "a set in AS4_PATH counts one",
                hex!("02 01 00000001 01 02 00005ba0 00005ba0").to_vec(),
                hex!("01 02 00011170 00011171").to_vec(),
                Some("1 {70000,70001}"),
            ),
        ];
        for (name, path, as4, expected) in cases {
            assert_eq!(merge(path, as4).as_deref().map(show).as_deref(), *expected, "{name}");
        }
        let long = sequence(&[1; 300]);
        let merged = merge(&long, &sequence(&[70000; 200])).unwrap();
        assert_eq!(AsPath::new(&merged).length(), 300);
        assert_eq!(check::<4>(&merged), Ok(()));
    }

    #[test]
    fn prepending_starts_a_segment_when_the_first_is_full_or_a_set() {
        assert_eq!(show(&prepend(&[], 65000, 1)), "65000");
        assert_eq!(prepend(&[], 65000, 0), Vec::<u8>::new());
        assert_eq!(show(&prepend(&sequence(&[1]), 65000, 2)), "65000 65000 1");
        assert_eq!(show(&prepend(&hex!("01 01 00000005"), 65000, 1)), "65000 {5}");
        let full = prepend(&sequence(&[1; 255]), 65000, 1);
        assert_eq!(AsPath::new(&full).segments().map(|s| s.asns().count()).collect::<Vec<_>>(), [1, 255]);
        let filled = prepend(&sequence(&[1; 254]), 65000, 1);
        assert_eq!(AsPath::new(&filled).segments().count(), 1);
    }

    #[test]
    fn narrowing_says_when_as_trans_was_needed() {
        assert_eq!(narrow(&sequence(&[65001])), (hex!("02 01 fde9").to_vec(), false));
        assert_eq!(narrow(&sequence(&[1, 70000])), (hex!("02 02 0001 5ba0").to_vec(), true));
        assert_eq!(widen(&hex!("02 01 fde9 01 01 0001")), hex!("02 01 0000fde9 01 01 00000001"));
    }
}
