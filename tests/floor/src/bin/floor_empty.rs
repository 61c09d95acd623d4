//! `floor-empty`: a process that does nothing, built as the plugin is. What starting it takes, nobody can save.

fn main() {}
