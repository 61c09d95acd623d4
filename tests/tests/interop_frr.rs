//! towpath beside FRR: every row of `towpath_tests::interop::rows`.

use towpath_tests::interop::Program;

towpath_tests::interop_column!(Program::Frr);
