//! The plugin as it is installed: one static file, small, without an async runtime and without TLS.

use std::path::PathBuf;
use std::process::Command;

/// Bytes that the stripped file may have: it is read from disk and mapped for every pod.
const MOST_BYTES: u64 = 2_000_000;

/// What `make plugin` built: `TOWPATH_CNI`, else the file beside this build's own folder.
fn plugin() -> PathBuf {
    let path = std::env::var_os("TOWPATH_CNI").map_or_else(
        || {
            let release = PathBuf::from(env!("CARGO_BIN_EXE_towpath-cni"));
            let target = release.ancestors().nth(2).expect("target/release/towpath-cni").to_owned();
            target.join(format!("{}-unknown-linux-gnu/plugin/towpath-cni", std::env::consts::ARCH))
        },
        PathBuf::from,
    );
    assert!(path.exists(), "{}: the static plugin is not built; run: make plugin", path.display());
    path
}

#[test]
fn the_installed_file_is_small_static_and_stripped() {
    let path = plugin();
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.len() as u64 <= MOST_BYTES, "{}: {} bytes", path.display(), bytes.len());

    let elf = Elf(&bytes);
    assert_eq!(&bytes[..6], b"\x7fELF\x02\x01", "a little-endian 64-bit ELF file");
    let dynamic: Vec<u32> =
        elf.segments().filter(|kind| [Elf::DYNAMIC, Elf::INTERP].contains(kind)).collect();
    assert!(dynamic.is_empty(), "{}: linked dynamically, segments {dynamic:?}", path.display());
    assert!(!elf.sections().any(|kind| kind == Elf::SYMTAB), "{}: not stripped", path.display());
}

#[test]
fn the_installed_file_runs_without_anything_in_its_environment() {
    let output = Command::new(plugin()).env_clear().env("CNI_COMMAND", "VERSION").output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{answer}");
    assert_eq!(answer["supportedVersions"], serde_json::json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
}

#[test]
fn the_plugin_depends_on_no_runtime_no_tls_and_no_parser_of_command_lines() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            "towpath-cni",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--offline",
            "--locked",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("serde_json v"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let unwanted =
        ["tokio", "async-", "futures", "rustls", "ring", "openssl", "clap", "tracing", "regex", "hyper"];
    for line in text.lines() {
        assert!(
            !unwanted.iter().any(|name| line.starts_with(name)),
            "a plugin that lives for milliseconds has {line}"
        );
    }
}

/// Just enough of an ELF file's tables (elf(5), 64 bit, little endian).
struct Elf<'a>(&'a [u8]);

impl Elf<'_> {
    const DYNAMIC: u32 = 2; // p_type
    const INTERP: u32 = 3;
    const SYMTAB: u32 = 2; // sh_type

    fn u16_at(&self, offset: usize) -> usize {
        u16::from_le_bytes(self.0[offset..offset + 2].try_into().expect("as many octets as the type")).into()
    }

    fn u32_at(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.0[offset..offset + 4].try_into().expect("as many octets as the type"))
    }

    fn u64_at(&self, offset: usize) -> usize {
        u64::from_le_bytes(self.0[offset..offset + 8].try_into().expect("as many octets as the type"))
            as usize
    }

    /// `p_type` of every program header.
    fn segments(&self) -> impl Iterator<Item = u32> {
        let (start, size, count) = (self.u64_at(32), self.u16_at(54), self.u16_at(56));
        (0..count).map(move |number| self.u32_at(start + number * size))
    }

    /// `sh_type` of every section header.
    fn sections(&self) -> impl Iterator<Item = u32> {
        let (start, size, count) = (self.u64_at(40), self.u16_at(58), self.u16_at(60));
        (0..count).map(move |number| self.u32_at(start + number * size + 4))
    }
}
