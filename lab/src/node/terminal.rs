//! The terminal of a main process, as a container has one: its input stays open and silent, its
//! output goes to the node's log as plain text.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, OutputModes, tcgetattr, tcsetattr};

/// The side programs use. The kernel's end of it is read as long as this process lives.
pub(crate) struct Terminal {
    program_side: OwnedFd,
}

impl Terminal {
    /// Opens one in this node's own `/dev/pts`, whose output is appended to `log`.
    pub(crate) fn open(log: File) -> io::Result<Self> {
        let (reader, program_side) = pair()?;
        let mut modes = tcgetattr(&program_side)?;
        // Lines end as they do in files; nobody types, so there is nothing to echo.
        modes.output_modes.remove(OutputModes::ONLCR);
        modes.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&program_side, OptionalActions::Now, &modes)?;
        std::thread::spawn(move || {
            if let Err(error) = copy(File::from(reader), &log) {
                crate::node::init::note(
                    &log,
                    &format!("the terminal's output is lost from here on: {error}"),
                );
            }
        });
        Ok(Self { program_side })
    }

    /// One more descriptor of it, for a program.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.program_side.try_clone()
    }
}

/// A new terminal of the calling process' `/dev/pts`: our side, and that of programs.
fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let programs = open(name.as_c_str(), flags, Mode::empty())?;
    Ok((ours, programs))
}

/// Until nobody has the programs' side any more, which the kernel tells by EIO.
fn copy(mut reader: File, mut log: &File) -> io::Result<()> {
    let mut plain = Plain::default();
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let got = match reader.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => return Ok(()),
            got => got?,
        };
        log.write_all(&plain.of(chunk.get(..got).unwrap_or_default()))?;
    }
}

/// Takes the escape sequences of terminals (ECMA-48) out of a stream of bytes, and carriage returns.
#[derive(Debug, Default)]
struct Plain {
    state: State,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC [: up to a byte from @ to ~.
    Control,
    /// After ESC ], P, X, ^ or _: up to BEL or ESC \.
    String,
    /// After ESC ( and the like: one more byte.
    Charset,
}

impl Plain {
    fn of(&mut self, bytes: &[u8]) -> Vec<u8> {
        bytes.iter().copied().filter(|byte| self.keeps(*byte)).collect()
    }

    fn keeps(&mut self, byte: u8) -> bool {
        self.state = match (self.state, byte) {
            (_, 0x1b) => State::Escape,
            (State::Text, byte) => return byte != b'\r',
            (State::Escape, b'[') => State::Control,
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::String,
            (State::Escape, b' '..=b'/') => State::Charset,
            (State::Control, b'@'..=b'~') | (State::String, 0x07) | (State::Escape | State::Charset, _) => {
                State::Text
            }
            // Nobody's title is that important: a line's end ends everything.
            (State::Control | State::String, b'\n') => {
                self.state = State::Text;
                return true;
            }
            (state, _) => state,
        };
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_taken_out_wherever_the_stream_is_cut() {
        let cases: &[(&str, &str)] = &[
            ("plain text\n", "plain text\n"),
            ("\x1b[1;31mred\x1b[0m\r\n", "red\n"),
            ("\x1b]0;title\x07after \x1b]0;title\x1b\\too", "after too"),
            ("\x1b(Bset \x1b[?2004h$ ", "set $ "),
            ("\x1b]never ended\nnext line", "\nnext line"),
            ("größe\x1bM", "größe"),
        ];
        for (bytes, expected) in cases {
            for cut in 0..bytes.len() {
                let mut plain = Plain::default();
                let (head, tail) = bytes.as_bytes().split_at(cut);
                let text = [plain.of(head), plain.of(tail)].concat();
                assert_eq!(String::from_utf8(text).unwrap(), *expected, "{bytes:?} cut at {cut}");
            }
        }
    }
}
