//! The rows of the interoperability matrix: what a session can do, by which text, and the scenario that
//! shows it.
//!
//! One list, from which come [`ROWS`] and the tests of every column
//! ([`interop_column!`](crate::interop_column)), so that neither can miss what the other has.

use super::{Program, attributes, exchange, loss, scale, session};

/// One thing a session can do.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Name of the scenario and of its test in every column.
    pub name: &'static str,
    /// What it is, for the table.
    pub title: &'static str,
    /// The text it follows.
    pub rfc: &'static str,
    /// Plays it against one program.
    pub scenario: fn(Program) -> anyhow::Result<()>,
}

/// Hands the list to the macro `$then`, behind `$argument` where there is one.
#[macro_export]
macro_rules! interop_rows {
    ($then:ident $(, $argument:expr)?) => {
        $crate::$then! { $($argument;)?
            exchange: prefixes_come_and_go, "announce and withdraw, IPv4 and IPv6", "4271, 4760";
            exchange: both_families_share_an_ipv6_session, "IPv4 and IPv6 on an IPv6 session", "8950";
            exchange: both_families_share_an_ipv4_session, "IPv4 and IPv6 on an IPv4 session", "4760";
            exchange: two_routers_make_two_next_hops, "ECMP", "4271";
            exchange: each_side_can_ask_for_all_routes_again, "route refresh", "2918";
            session: passwords_decide_and_can_be_changed, "MD5: right, wrong, changed", "2385";
            session: as_numbers_have_four_octets, "4-octet AS numbers", "6793";
            session: four_octet_paths_survive_a_two_octet_speaker, "AS4_PATH through a 2-octet speaker", "6793";
            session: ttl_security_lets_only_neighbours_in, "GTSM", "5082";
            session: a_far_neighbour_needs_multihop, "multihop", "4271";
            session: either_side_can_be_the_one_that_waits, "passive, either side", "4271";
            session: the_smaller_hold_time_counts, "hold time 3 s, 0 and unequal", "4271";
            session: operators_read_why_a_session_was_shut_down, "shutdown text, both ways", "9003";
            session: too_many_prefixes_end_the_session, "our limit of prefixes", "4486";
            session: their_limit_of_prefixes_is_shown_in_words, "their limit of prefixes", "4486";
            loss: a_router_that_stops_takes_its_routes_along, "they stop", "4271";
            loss: a_router_that_hangs_is_given_up_after_the_hold_time, "they hang", "4271";
            loss: a_cut_link_is_noticed_at_once, "the link is cut", "4271";
            loss: routes_of_a_restarting_router_stay, "graceful restart: they restart", "4724";
            attributes: communities_of_every_kind_pass_through, "communities of every kind, unknown attributes", "1997, 4360, 8092";
            scale: a_large_table_arrives_whole_and_goes_whole, "100,000 prefixes", "4271";
        }
    };
}

/// [`ROWS`] out of the list.
#[doc(hidden)]
#[macro_export]
macro_rules! interop_list {
    ($($module:ident: $name:ident, $title:literal, $rfc:literal;)+) => {
        &[$(Row { name: stringify!($name), title: $title, rfc: $rfc, scenario: $module::$name },)+]
    };
}

/// All rows, in the order of the table.
pub const ROWS: &[Row] = crate::interop_rows!(interop_list);

/// Tests out of the list.
#[doc(hidden)]
#[macro_export]
macro_rules! interop_tests {
    ($program:expr; $($module:ident: $name:ident, $title:literal, $rfc:literal;)+) => {
        $(
            #[test]
            fn $name() -> anyhow::Result<()> {
                $crate::interop::matrix::play($program, stringify!($name))
            }
        )+
    };
}

/// A test for each row, played against one program.
#[macro_export]
macro_rules! interop_column {
    ($program:expr) => {
        $crate::interop_rows!(interop_tests, $program);
    };
}
