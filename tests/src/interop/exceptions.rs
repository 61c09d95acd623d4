//! The cells of the interoperability matrix that are not expected to work, and why.

use super::Program::{self, Exabgp, Frr, Gobgp, Openbgpd};
use super::matrix::Outcome;

/// A cell that is not expected to work.
#[derive(Debug, Clone, Copy)]
pub struct Exception {
    /// The column.
    pub program: Program,
    /// The row's name.
    pub row: &'static str,
    /// Why there is one.
    pub outcome: Outcome,
    /// For operators: what the program lacks or does, and what towpath then does.
    pub reason: &'static str,
}

const fn not_supported(program: Program, row: &'static str, reason: &'static str) -> Exception {
    Exception { program, row, outcome: Outcome::NotSupported, reason }
}

const fn fails(program: Program, row: &'static str, reason: &'static str) -> Exception {
    Exception { program, row, outcome: Outcome::Fails, reason }
}

/// The exception for one cell.
pub fn exception(program: Program, row: &str) -> Option<&'static Exception> {
    EXCEPTIONS.iter().find(|exception| exception.program == program && exception.row == row)
}

const PASSES_NOTHING_ON: &str =
    "ExaBGP announces what its operator says and passes on nothing that it received";

/// All cells that are not expected to work.
pub const EXCEPTIONS: &[Exception] = &[
    not_supported(
        Frr,
        "four_octet_paths_survive_a_two_octet_speaker",
        "with `dont-capability-negotiate` FRR speaks 2-octet AS numbers and drops AS4_PATH instead of passing it on",
    ),
    not_supported(
        Gobgp,
        "four_octet_paths_survive_a_two_octet_speaker",
        "it always offers 4-octet AS numbers; no setting makes it an old speaker",
    ),
    not_supported(
        Gobgp,
        "the_higher_identifier_decides_a_collision",
        "GoBGP speaks on one connection of a neighbour at a time: no OPEN of it meets one of ours on another",
    ),
    fails(
        Gobgp,
        "without_a_hold_time_there_are_no_keepalives",
        "it agrees to a Hold Time of 0 and closes the connection as soon as the session is Established; towpath tries \
         again with its usual pauses. Give either side a Hold Time",
    ),
    not_supported(
        Gobgp,
        "they_ask_for_all_routes_again",
        "no command of it sends a ROUTE-REFRESH: `softresetin` looks again at what it kept",
    ),
    not_supported(Gobgp, "refreshes_have_a_beginning_and_an_end", "it does not know RFC 7313"),
    fails(
        Gobgp,
        "they_obey_well_known_communities",
        "it tells other ASes what we announce with NO_EXPORT, NO_ADVERTISE or NO_EXPORT_SUBCONFED, unless a policy of its \
         own says otherwise",
    ),
    not_supported(
        Gobgp,
        "messages_longer_than_4096_octets_pass",
        "it does not know RFC 8654, and cannot pass on what needs more than 4096 octets",
    ),
    fails(
        Openbgpd,
        "both_families_share_an_ipv4_session",
        "on Linux it takes any IPv6 address of the machine as its own next hop, `::1` included; towpath keeps such a \
         path out of use until its next hop can be reached. Use a session for each family",
    ),
    not_supported(
        Openbgpd,
        "both_families_share_an_ipv6_session",
        "version 7.7 does not know RFC 8950; what it sends as an IPv4 next hop (127.0.0.1) is treated as a withdrawal",
    ),
    not_supported(
        Openbgpd,
        "the_higher_identifier_decides_a_collision",
        "OpenBGPD speaks on one connection of a neighbour at a time: no OPEN of it meets one of ours on another",
    ),
    fails(
        Openbgpd,
        "we_ask_for_all_routes_again",
        "it counts our ROUTE-REFRESH, logs `AID IPv4 unicast not negotiated` and sends nothing; the routes it announced \
         before stay in use",
    ),
    fails(
        Openbgpd,
        "refreshes_have_a_beginning_and_an_end",
        "it answers no ROUTE-REFRESH, as above; what it asks for is marked by us and taken by it",
    ),
    fails(
        Openbgpd,
        "extended_communities_pass_through",
        "it zeroes the value of extended communities of types that it does not know",
    ),
    not_supported(
        Openbgpd,
        "messages_longer_than_4096_octets_pass",
        "version 7.7 does not know RFC 8654, and cannot pass on what needs more than 4096 octets",
    ),
    not_supported(
        Openbgpd,
        "routes_of_a_restarting_router_stay",
        "it offers a restart time of 0: neighbours are not to keep its routes",
    ),
    not_supported(Exabgp, "four_octet_paths_survive_a_two_octet_speaker", PASSES_NOTHING_ON),
    not_supported(
        Exabgp,
        "the_higher_identifier_decides_a_collision",
        "ExaBGP speaks on one connection of a neighbour at a time: no OPEN of it meets one of ours on another",
    ),
    not_supported(Exabgp, "they_obey_well_known_communities", PASSES_NOTHING_ON),
    not_supported(Exabgp, "a_large_table_comes_from_them", PASSES_NOTHING_ON),
    fails(
        Exabgp,
        "we_ask_for_all_routes_again",
        "with enhanced route refresh, which it always offers, it crashes on a ROUTE-REFRESH and closes the connection; \
         towpath keeps its routes as stale and connects again",
    ),
    fails(Exabgp, "refreshes_have_a_beginning_and_an_end", "it crashes on a ROUTE-REFRESH, as above"),
    not_supported(Exabgp, "their_limit_of_prefixes_is_shown_in_words", "it has no limit of prefixes"),
    not_supported(
        Exabgp,
        "we_read_why_they_shut_a_session_down",
        "it has no command that ends a session with a text: `teardown` sends a subcode of Cease",
    ),
    not_supported(
        Exabgp,
        "they_read_why_we_shut_a_session_down",
        "it shows a text to programs that use its API, not to people: neither its log nor its command has it",
    ),
    not_supported(
        Exabgp,
        "a_large_table_goes_to_them",
        "not made for it: beside other work it had not taken and listed the whole table after four minutes, which is the \
         time a cell has",
    ),
];
