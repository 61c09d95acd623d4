//! How little memory a daemon keeps: what the allocator is told at the start, and what only the start needed.

#![expect(
    unsafe_code,
    reason = "mallopt(3), malloc_trim(3) and madvise(2) have no safe wrapper in our dependencies"
)]

use std::fs;
use std::io;

/// Larger blocks are mapped on their own and go back to the system when they are freed: tables that grow, batches.
const MAPPED_FROM_BYTES: i32 = 128 << 10;

/// Settings of glibc's allocator; with another one nothing happens. To be called before the first thread starts.
///
/// glibc gives each thread an arena of its own and moves its thresholds up with what was freed. A route is decoded by
/// one thread and kept by another, so arenas were left with holes (6 octets a route with 500,000 routes), and tables
/// stayed in the heap when they were emptied (ADR 6).
pub fn configure_allocator() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES),
        (libc::M_TRIM_THRESHOLD, MAPPED_FROM_BYTES),
    ] {
        // SAFETY: mallopt takes two numbers and changes settings of the allocator only; no other thread runs yet that
        // could read them at the same time.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Gives free pages inside the heap back to the system, a few milliseconds for a large table. Without it three quarters
/// of what 500,000 routes had taken stayed after their withdrawal: what lives on lies scattered, and free only shortens
/// the heap at its end.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes the allocator's own locks and touches free memory only.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Unmaps the pages of the program's file that the start has touched; what is used again is mapped again from the page
/// cache, without a read from disk. Most of a daemon's code parses, configures and explains once (16 MB resident
/// before, 7 after). Returns the octets that were looked at.
///
/// # Errors
/// `/proc/self/smaps` cannot be read, or the kernel refuses.
pub fn forget_start() -> io::Result<usize> {
    let maps = fs::read_to_string("/proc/self/smaps")?;
    let mut total = 0;
    for (address, length) in unwritten(&maps) {
        // SAFETY: the range is a mapping of a file that cannot be written to and has no page of this process's own, so
        // its pages are the file's, and MADV_DONTNEED changes only where the next access finds them.
        let result = unsafe { libc::madvise(address as *mut libc::c_void, length, libc::MADV_DONTNEED) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        total += length;
    }
    Ok(total)
}

/// Address and length of the mappings of files that are read-only and hold nothing but the file, from the text of
/// proc_pid_smaps(5). A segment that was relocated and then made read-only has pages that are this process's own, in
/// memory or swapped out.
fn unwritten(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut mapping = None;
    for line in smaps.lines() {
        if let Some(own) = line.strip_prefix("Anonymous:") {
            mapping = mapping.filter(|_| own.trim() == "0 kB");
        } else if let Some(own) = line.strip_prefix("Swap:") {
            found.extend(mapping.take().filter(|_| own.trim() == "0 kB"));
        } else if !line.starts_with(|c: char| c.is_ascii_uppercase()) {
            mapping = read_only_file(line);
        }
    }
    found
}

/// Address and length of a mapping, from its first line, if it is a file's and cannot be written to.
fn read_only_file(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, permissions) = (fields.next()?, fields.next()?);
    let path = fields.nth(3)?;
    if !matches!(permissions, "r-xp" | "r--p") || !path.starts_with('/') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_has_written_to_is_named() {
        let mappings = [
            ("7f00-7f80 r-xp 00535000 fe:00 1234  /usr/local/bin/towpath", (0, 0), Some((0x7f00, 0x80))),
            ("7f00-7f80 r-xp 00535000 fe:00 1234  /usr/bin/a name", (0, 0), Some((0x7f00, 0x80))),
            ("7f00-7f80 r--p 00000000 fe:00 1234  /usr/local/bin/towpath", (0, 0), Some((0x7f00, 0x80))),
            ("7f00-7f80 r--p 01581870 fe:00 1234  /usr/local/bin/towpath", (4, 0), None),
            ("7f00-7f80 r--p 01581870 fe:00 1234  /usr/local/bin/towpath", (0, 4), None),
            ("7f00-7f80 rw-p 00000000 fe:00 1234  /usr/local/bin/towpath", (0, 0), None),
            ("7f00-7f80 rwxp 00000000 fe:00 1234  /usr/local/bin/towpath", (0, 0), None),
            ("7f00-7f80 r-xp 00000000 00:00 0  [vdso]", (0, 0), None),
            ("7f00-7f80 r-xp 00000000 00:00 0", (0, 0), None),
        ];
        let blocks = mappings.map(|(line, (own, swapped), _)| {
            format!("{line}\nRss: 8 kB\nAnonymous:    {own} kB\nSwap:     {swapped} kB\nVmFlags: rd\n")
        });
        for (block, (line, _, expected)) in blocks.iter().zip(mappings) {
            assert_eq!(unwritten(block), Vec::from_iter(expected), "{line}");
        }
        assert_eq!(unwritten(&blocks.concat()).len(), 3);
        assert_eq!(unwritten(mappings[0].0), [], "cut off: nothing is known of its pages");
    }

    /// Kilobytes of a line of proc_pid_status(5).
    fn resident(line: &str) -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn free_pages_between_what_lives_on_are_given_back() {
        let mut blocks: Vec<Option<Box<[u8; 64]>>> = (0..500_000).map(|_| Some(Box::new([1; 64]))).collect();
        for (at, block) in blocks.iter_mut().enumerate() {
            if at % 1000 != 0 {
                *block = None;
            }
        }
        let before = resident("RssAnon:");
        give_back();
        let after = resident("RssAnon:");
        assert!(after + 20_000 < before, "{before} kB before, {after} kB after");
        assert_eq!(blocks.iter().flatten().count(), 500);
    }

    #[test]
    fn the_program_goes_on_and_holds_less_of_its_file() {
        let resident = || resident("RssFile:");
        let before = resident();
        assert!(forget_start().unwrap() > 0);
        assert!(resident() < before, "{before} kB before, {} kB after", resident());
    }
}
