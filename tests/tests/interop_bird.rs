//! towpath beside BIRD: every scenario of `towpath_tests::interop`.

use towpath_tests::interop::{Program, session};

towpath_tests::interop_column!(Program::Bird);

#[test]
fn four_octet_paths_survive_a_two_octet_speaker() -> anyhow::Result<()> {
    session::four_octet_paths_survive_a_two_octet_speaker(Program::Bird)
}
