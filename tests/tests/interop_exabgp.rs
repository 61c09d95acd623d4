//! towpath beside ExaBGP: every row of the interoperability matrix.

use towpath_tests::interop::Program;

towpath_tests::interop_column!(Program::Exabgp);
