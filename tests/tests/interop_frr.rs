//! towpath beside FRR: every scenario of `towpath_tests::interop`.

towpath_tests::interop_column!(towpath_tests::interop::Program::Frr);
