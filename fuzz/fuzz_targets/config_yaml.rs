//! Any bytes as a configuration file: an answer, never a panic, a loop or unbounded memory.
#![no_main]

use api::Documents;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut documents = Documents::default();
    documents.add("fuzz.yaml", bytes);
    if let Err(problems) = documents.build("node-1") {
        assert!(!problems.is_empty(), "refused without a reason");
        for problem in problems {
            assert!(!problem.to_string().contains('\n'), "a problem is one line");
        }
    }
});
