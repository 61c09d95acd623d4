//! The rows of the interoperability matrix: what a session can do, by which text, and the scenario that
//! shows it.
//!
//! One list, from which come [`ROWS`] and the tests of every column
//! ([`interop_column!`](crate::interop_column)), so that neither can miss what the other has.

use super::{
    Program, attributes, auth, cease, collision, exchange, loss, refresh, restart, scale, session, well_known,
};

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
            exchange: ipv4_prefixes_come_and_go, "IPv4: announce and withdraw, both ways", "4271";
            exchange: ipv6_prefixes_come_and_go, "IPv6: announce and withdraw, both ways", "4760, 2545";
            exchange: both_families_share_an_ipv4_session, "both families on an IPv4 session", "4760";
            exchange: both_families_share_an_ipv6_session, "both families on an IPv6 session, IPv4 with IPv6 next hops", "8950";
            exchange: two_routers_make_two_next_hops, "ECMP over two of them", "4271";
            auth: the_same_password_lets_a_session_up, "TCP MD5: the same key", "2385";
            auth: a_wrong_password_is_named, "TCP MD5: a wrong key or none", "2385";
            auth: a_password_can_be_changed, "TCP MD5: the key is changed", "2385";
            auth: ttl_security_lets_only_neighbours_in, "GTSM", "5082";
            auth: a_far_neighbour_needs_multihop, "multihop", "4271";
            session: we_wait_and_they_connect, "we are passive", "4271";
            session: they_wait_and_we_connect, "they are passive", "4271";
            collision: the_higher_identifier_decides_a_collision, "collision: both connect at once", "4271";
            session: a_hold_time_of_three_seconds_is_kept_alive, "hold time 3 s", "4271";
            session: the_smaller_hold_time_counts, "hold times that differ", "4271";
            session: without_a_hold_time_there_are_no_keepalives, "hold time 0", "4271";
            session: as_numbers_have_four_octets, "4-octet AS numbers", "6793";
            session: four_octet_paths_survive_a_two_octet_speaker, "AS4_PATH merged behind a 2-octet speaker", "6793";
            refresh: they_ask_for_all_routes_again, "route refresh: they ask", "2918";
            refresh: we_ask_for_all_routes_again, "route refresh: we ask", "2918";
            refresh: refreshes_have_a_beginning_and_an_end, "enhanced route refresh, both ways", "7313";
            attributes: standard_communities_pass_through, "communities, both ways", "1997";
            attributes: extended_communities_pass_through, "extended communities, both ways", "4360";
            attributes: large_communities_pass_through, "large communities, both ways", "8092";
            well_known: we_obey_well_known_communities, "NO_EXPORT, NO_ADVERTISE, NO_EXPORT_SUBCONFED from them", "1997";
            well_known: they_obey_well_known_communities, "NO_EXPORT, NO_ADVERTISE, NO_EXPORT_SUBCONFED from us", "1997";
            attributes: unknown_transitive_attributes_pass_through, "unknown transitive attributes, both ways", "4271";
            attributes: messages_longer_than_4096_octets_pass, "extended messages, both ways", "8654";
            cease: too_many_prefixes_end_the_session, "our limit of prefixes", "4486";
            cease: their_limit_of_prefixes_is_shown_in_words, "their limit of prefixes", "4486";
            cease: we_read_why_they_shut_a_session_down, "shutdown text from them", "9003";
            cease: they_read_why_we_shut_a_session_down, "shutdown text from us", "9003";
            restart: routes_of_a_restarting_router_stay, "graceful restart: they restart, we help", "4724";
            restart: our_routes_stay_while_we_restart, "graceful restart: we restart, they help", "4724";
            loss: a_router_that_stops_takes_its_routes_along, "they stop and return", "4271";
            loss: a_router_that_hangs_is_given_up_after_the_hold_time, "they hang and go on", "4271";
            loss: a_cut_link_is_noticed_at_once, "the link is cut and mended", "4271";
            scale: a_large_table_comes_from_them, "100,000 prefixes from them", "4271";
            scale: a_large_table_goes_to_them, "100,000 prefixes to them", "4271";
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
