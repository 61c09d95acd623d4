//! Schemas of single values, with the rules of what they may be: number, address, prefix, interval, community.
//!
//! Each type here stands for a schema only, as `#[schemars(with = "Asn")]` on a field that keeps what was written.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{Rule, list, shown, text_of, validations, when};
use crate::build::{self, NEVER_ROUTED, WELL_KNOWN_COMMUNITIES};

/// A type that stands for a schema.
macro_rules! schema {
    ($(#[$doc:meta])* $name:ident, $schema:expr) => {
        $(#[$doc])*
        pub(crate) enum $name {}

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

fn text(longest: u32, rules: impl IntoIterator<Item = Rule>) -> Schema {
    json_schema!({ "type": "string", "maxLength": longest, "x-kubernetes-validations": validations(rules) })
}

fn int_or_text(rules: impl IntoIterator<Item = Rule>) -> Schema {
    json_schema!({ "x-kubernetes-int-or-string": true, "x-kubernetes-validations": validations(rules) })
}

schema!(
    /// An AS number: `65000`, `"65000.1"`.
    Asn,
    int_or_text(asn(None))
);
schema!(
    /// An AS number, or a word for a relation.
    RemoteAsn,
    int_or_text(remote_asn())
);
schema!(
    /// A BGP Identifier.
    RouterId,
    text(15, [router_id()])
);
schema!(
    /// A routing table: `main` or a number.
    Table,
    int_or_text([table()])
);
schema!(
    /// The address of a host.
    Address,
    text(ADDRESS_LENGTH, address("self", None))
);
schema!(
    /// The address of a host, or the wildcard of a family.
    ListenAddress,
    text(ADDRESS_LENGTH, address("self", Some("!isIP(self) || !ip(self).isUnspecified()")))
);
schema!(
    /// The address of a host, a link-local one with its interface.
    NeighborAddress,
    text(128, neighbor_address())
);
schema!(
    /// `auto`, `kernel`, or the address of a host.
    SourceAddress,
    text(ADDRESS_LENGTH, source_address())
);
schema!(
    /// A prefix without host bits.
    Prefix,
    text(PREFIX_LENGTH, prefix())
);
schema!(
    /// A prefix that is not the whole Internet.
    PoolPrefix,
    text(PREFIX_LENGTH, prefix().into_iter().chain([not_everything()]))
);
schema!(
    /// A prefix that may be announced.
    AnnouncedPrefix,
    text(PREFIX_LENGTH, prefix().into_iter().chain([announceable()]))
);
schema!(
    /// A range pods get their addresses from.
    PodBlock,
    text(PREFIX_LENGTH, prefix().into_iter().chain([announceable(), not_too_large()]))
);
schema!(
    /// A Linux interface name.
    InterfaceName,
    text(64, [interface("self", None)])
);
schema!(
    /// A community: `65001:100`, or a well-known name.
    Community,
    text(64, [community()])
);
schema!(
    /// A large community: `65001:1:100`.
    LargeCommunity,
    text(64, [large_community()])
);
schema!(
    /// A text told to a neighbour, of at most 255 octets (RFC 9003).
    Reason,
    text(1024, [reason()])
);
schema!(
    /// The name of a Kubernetes object.
    ObjectName,
    text(253, [object_name()])
);
schema!(
    /// The name of a namespace.
    Namespace,
    text(63, [namespace()])
);
schema!(
    /// A key of a Secret.
    SecretKey,
    text(253, [secret_key()])
);

const ADDRESS_LENGTH: u32 = 64;
const PREFIX_LENGTH: u32 = 64;

/// Digits or dotted (RFC 5396), none of the reserved ones. `applies`: CEL of when there should be one.
fn asn(applies: Option<&str>) -> [Rule; 2] {
    const IS: &str = "(type(self) == int ? self >= 0 && self <= 4294967295 \
        : self.matches('^0*[0-9]{1,10}$') ? int(self) <= 4294967295 \
        : self.matches('^0*[0-9]{1,5}[.]0*[0-9]{1,5}$') && self.split('.', 2).all(half, int(half) <= 65535))";
    const NUMBER: &str = "(type(self) == int ? self \
        : self.contains('.') ? int(self.split('.', 2)[0]) * 65536 + int(self.split('.', 2)[1]) : int(self))";
    let reserved = format!("(!{IS} || !({NUMBER} in [0, 23456, 65535, 4294967295]))");
    [
        Rule::new(when(applies, IS), "must be an AS number: 1 to 4294967294, or dotted as \"65000.1\"")
            .saying(format!(
                "{} + ' is no AS number; use 1 to 4294967294, or dotted as \"65000.1\"'",
                shown("string(self)")
            )),
        Rule::new(when(applies, &reserved), "must not be a reserved AS number").saying(format!(
            "{} + ' is reserved; use another AS number, such as 64512 to 65534 for private use'",
            text_of(NUMBER)
        )),
    ]
}

fn remote_asn() -> impl Iterator<Item = Rule> {
    const NUMBER: &str = "type(self) == int || self.matches('^[0-9]')";
    let word = Rule::new(
        format!("{NUMBER} || self in ['external', 'internal', 'any']"),
        "must be an AS number, external, internal or any",
    )
    .saying(format!(
        "{} + ' is not allowed; use a number, external, internal or any'",
        shown("string(self)")
    ));
    [word].into_iter().chain(asn(Some(NUMBER)))
}

fn router_id() -> Rule {
    Rule::new(
        "isIP(self) && ip(self).family() == 4 && self != '0.0.0.0'",
        "must be a dotted quad other than 0.0.0.0",
    )
    .saying(format!("{} + ' is not allowed; use a dotted quad other than 0.0.0.0'", shown("self")))
}

fn table() -> Rule {
    Rule::new(
        "type(self) == int ? self >= 1 && self <= 4294967295 && self != 255 : self == 'main'",
        "must be main or a number from 1 to 4294967295, but not 255",
    )
    .saying(format!(
        "{} + ' is not allowed; use main or a number from 1 to 4294967295, but not 255'",
        shown("string(self)")
    ))
}

/// The rule of `install.protocol`: neither the number nor the next one is another program's.
pub(crate) fn route_protocol() -> Rule {
    // Below 5 are the kernel's, which the range of the field excludes.
    let owners: Vec<(u8, &str)> =
        (5..=u8::MAX).filter_map(|number| Some((number, build::route_protocol_owner(number)?))).collect();
    let numbers: Vec<String> = owners.iter().map(|(number, _)| number.to_string()).collect();
    let names: Vec<String> = owners.iter().map(|(number, name)| format!("{number}: '{name}'")).collect();
    let (numbers, names) = (numbers.join(", "), names.join(", "));
    let taken = format!("(self in [{numbers}] ? self : self + 1)");
    Rule::new(
        format!("!(self in [{numbers}]) && !(self + 1 in [{numbers}])"),
        "must be a route protocol number that nobody else uses, and the next one too",
    )
    .saying(format!(
        "{} + ' is not allowed: ' + {} + ' is ' + {{{names}}}[{taken}] + '\\'s, whose routes we would remove; \
            use 199 or another pair of free numbers'",
        text_of("self"),
        text_of(&taken)
    ))
}

/// The address of one host, in the CEL expression `text`. `checked`: CEL of when the last rule applies.
fn address(text: &str, checked: Option<&str>) -> [Rule; 3] {
    let shown = shown(text);
    let of_a_host = format!(
        "(!isIP({text}) || ip({text}).isGlobalUnicast() || ip({text}).isLoopback() || ip({text}).isLinkLocalUnicast())"
    );
    // `ip` takes no IPv4-mapped addresses, which stand for IPv4 in some programs and for IPv6 in others.
    let mapped = format!("({text}.lowerAscii().startsWith('::ffff:') && isIP({text}.substring(7)))");
    [
        Rule::new(format!("isIP({text}) || {mapped}"), "must be an IPv4 or IPv6 address").saying(format!(
            "{shown} + (isCIDR({text}) ? ' is no address; leave out the prefix length' \
                : ' is no address; use an IPv4 or IPv6 address')"
        )),
        Rule::new(format!("!{mapped}"), "must not be an IPv4-mapped IPv6 address; write the IPv4 address")
            .saying(format!("{text}.lowerAscii() + ' is not allowed; write ' + {text}.substring(7)")),
        Rule::new(when(checked, &of_a_host), "must be the address of one host").saying(format!(
            "{} + ' is not allowed; use the address of one host'",
            text_of(&format!("ip({text})"))
        )),
    ]
}

/// CEL of whether `text` is a link-local IPv6 address.
pub(super) fn is_link_local(text: &str) -> String {
    format!("(isIP({text}) && ip({text}).family() == 6 && ip({text}).isLinkLocalUnicast())")
}

/// The neighbour's address without its zone.
pub(super) fn without_zone(text: &str) -> String {
    format!("{text}.split('%', 2)[0]")
}

fn neighbor_address() -> impl Iterator<Item = Rule> {
    const ZONE: &str = "self.split('%', 2)[1]";
    let bare = without_zone("self");
    let link_local = is_link_local(&bare);
    let address = text_of(&format!("ip({bare})"));
    self::address(&bare, None).into_iter().chain([
        Rule::new(
            format!("self.contains('%') || !{link_local}"),
            "is link-local; add its interface, as fe80::1%eth0",
        )
        .saying(format!("{address} + ' is link-local; add its interface, as ' + {address} + '%eth0'")),
        Rule::new(
            format!("!self.contains('%') || !isIP({bare}) || {link_local}"),
            "is not link-local; write it without %",
        )
        .saying(format!("{address} + ' is not link-local; write it without %' + {}", shown(ZONE))),
        interface(ZONE, Some(&format!("self.contains('%') && {link_local}"))),
    ])
}

fn source_address() -> impl Iterator<Item = Rule> {
    const WORDS: &str = "self in ['auto', 'kernel']";
    let [is_address, not_mapped, of_a_host] = address("self", None);
    let is_one = Rule::new(format!("{WORDS} || {}", is_address.holds), "must be auto, kernel or an address")
        .saying(format!("{} + ' is not allowed; use auto, kernel or an address'", shown("self")));
    [is_one, not_mapped, of_a_host].into_iter()
}

fn prefix() -> [Rule; 2] {
    [
        Rule::new("isCIDR(self)", "must be a prefix, ADDRESS/LENGTH").saying(format!(
            "isIP(self) ? self + ' has no prefix length; write ' + {} + (ip(self).family() == 4 ? '/32' : '/128') \
                : {} + ' is no prefix; use ADDRESS/LENGTH'",
            text_of("ip(self)"),
            shown("self")
        )),
        Rule::new(
            "!isCIDR(self) || cidr(self) == cidr(self).masked()",
            "must not have bits set behind the prefix length",
        )
        .saying(format!(
            "{} + ' has bits set behind its length; write ' + {}",
            text_of("cidr(self)"),
            text_of("cidr(self).masked()")
        )),
    ]
}

/// CEL of whether this is a prefix as [`prefix`] wants it.
const IS_PREFIX: &str = "(isCIDR(self) && cidr(self) == cidr(self).masked())";

/// A prefix of another length than this rule wants, or inside one it refuses: `says` follows the prefix.
fn refused_prefix(holds: String, message: &'static str, says: &str) -> Rule {
    Rule::new(holds, message).saying(format!("{} + {says}", text_of("cidr(self)")))
}

fn not_everything() -> Rule {
    refused_prefix(
        "!isCIDR(self) || cidr(self).prefixLength() > 0".into(),
        "must not be the whole Internet",
        "' is not allowed; a pool is not the whole Internet'",
    )
}

fn announceable() -> Rule {
    let never = list(NEVER_ROUTED.iter().copied());
    refused_prefix(
        format!("!{IS_PREFIX} || !{never}.exists(never, cidr(never).containsCIDR(self))"),
        "must be a prefix that is routed between hosts",
        &format!(
            "' is not allowed; ' + {never}.filter(never, cidr(never).containsCIDR(self))[0] \
                + ' is never routed between hosts'"
        ),
    )
}

fn not_too_large() -> Rule {
    refused_prefix(
        format!("!{IS_PREFIX} || cidr(self).prefixLength() >= 8"),
        "is too large for the pods of one node; use a /8 or longer",
        "' is too large for the pods of one node; use a /8 or longer'",
    )
}

/// A Linux interface name in the CEL expression `text`. `applies`: CEL of when there should be one.
fn interface(text: &str, applies: Option<&str>) -> Rule {
    Rule::new(
        when(
            applies,
            &format!(
                "bytes({text}).size() <= 15 && !({text} in ['.', '..']) \
                    && {text}.matches('^[^/:\\\\s\\\\p{{Z}}\\\\p{{Cc}}]+$')"
            ),
        ),
        "must be an interface name: 1 to 15 octets without spaces, / and :",
    )
    .saying(format!("{} + ' is no interface name; use 1 to 15 octets without spaces, / and :'", shown(text)))
}

/// CEL of whether `text` is an interval that `duration()` reads.
pub(super) fn is_interval(text: &str) -> String {
    // duration() alone takes signs, fractions, and units in any order; and fails above 292 years.
    format!(
        "({text} != '' && {text}.matches('^(0*[0-9]{{1,6}}h)?(0*[0-9]{{1,8}}m)?(0*[0-9]{{1,9}}s)?(0*[0-9]{{1,12}}ms)?$'))"
    )
}

/// The rules of an interval of whole seconds, `least` to `most` of them. `remedy`: `use 1s to 1h`.
pub(crate) fn interval(least: u32, most: u32, remedy: &'static str) -> Vec<Rule> {
    let is_interval = is_interval("self");
    let whole = "duration(self).getMilliseconds() % 1000 == 0";
    vec![
        Rule::new(is_interval.clone(), "must be numbers with h, m, s such as 90s or 1h30m").saying(format!(
            "{} + ' is no interval; write numbers with h, m, s such as 90s or 1h30m'",
            shown("self")
        )),
        Rule::new(format!("!{is_interval} || {whole}"), "must be whole seconds")
            .saying("self + ' is not allowed; use whole seconds'"),
        Rule::new(
            format!(
                "!{is_interval} || !({whole}) || duration(self) >= duration('{least}s') && duration(self) <= duration('{most}s')"
            ),
            "is out of range",
        )
        .saying(format!("self + ' is not allowed; {remedy}'")),
    ]
}

/// The rules of the Hold Time (RFC 4271 section 4.2).
pub(crate) fn hold() -> Vec<Rule> {
    let mut rules = interval(0, 65535, "use 0s (off), or 3s to 65535s");
    rules.push(
        Rule::new(
            format!("!{} || !(duration(self) in [duration('1s'), duration('2s')])", is_interval("self")),
            "must be 0s (off) or at least 3s",
        )
        .saying("self + ' is not allowed; use 0s (off) or at least 3s'"),
    );
    rules
}

fn community() -> Rule {
    let names = list(WELL_KNOWN_COMMUNITIES.iter().map(|(name, _)| *name));
    Rule::new(
        format!(
            "self in {names} || self.matches('^0*[0-9]{{1,5}}:0*[0-9]{{1,5}}$') \
                && self.split(':').all(half, int(half) <= 65535)"
        ),
        "must be a community, \"0:0\" to \"65535:65535\" or a name such as no-export",
    )
    .saying(format!(
        "{} + (self.split(':').size() == 3 ? ' is a large community; put it under largeCommunities' \
            : ' is no community; use \"0:0\" to \"65535:65535\" or a name such as no-export')",
        shown("self")
    ))
}

fn large_community() -> Rule {
    Rule::new(
        "self.matches('^0*[0-9]{1,10}:0*[0-9]{1,10}:0*[0-9]{1,10}$') \
            && self.split(':').all(part, int(part) <= 4294967295)",
        "must be a large community: three numbers up to 4294967295, \"65001:1:100\"",
    )
    .saying(format!(
        "{} + ' is no large community; use three numbers up to 4294967295, \"65001:1:100\"'",
        shown("self")
    ))
}

fn reason() -> Rule {
    Rule::new("bytes(self).size() <= 255", "must have at most 255 octets").saying(format!(
        "{} + ' octets are too many; RFC 9003 carries at most 255'",
        text_of("bytes(self).size()")
    ))
}

fn object_name() -> Rule {
    Rule::new(
        "!format.dns1123Subdomain().validate(self).hasValue()",
        "must be a name: lower-case letters, digits, - and .",
    )
    .saying(format!("{} + ' is not allowed; use lower-case letters, digits, - and .'", shown("self")))
}

fn namespace() -> Rule {
    Rule::new(
        "!format.dns1123Label().validate(self).hasValue()",
        "must be the name of a namespace: lower-case letters, digits and -",
    )
    .saying(format!("{} + ' is not allowed; use lower-case letters, digits and -'", shown("self")))
}

fn secret_key() -> Rule {
    Rule::new("self.matches('^[-._a-zA-Z0-9]+$')", "must be a key of a Secret: letters, digits, -, _ and .")
        .saying(format!("{} + ' is not allowed; use letters, digits, -, _ and .'", shown("self")))
}
