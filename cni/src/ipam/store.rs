//! The ledger on disk: one change at a time, each durable before anybody relies on it.
//!
//! A change takes the lock, reads the log, appends records and lets the lock go; a claim then waits for the disk, so
//! that the waits of parallel ADDs become one. A log that grew full, ends torn, is of another boot, damaged or missing
//! is written anew beside the old one and renamed over it. What files, clocks, locks and links are is the
//! [`Host`]'s business: [`super::Node`] in the plugin, a simulated disk in tests.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::error::IpamError;
use super::ledger::{Ledger, Now, Rows};
use super::process::Process;
use super::record::{self, End, HEADER_OCTETS, LogError, MOST_BOOT_ID_OCTETS, Reach, Record, Writer};
use super::recover::{self, Found};
use super::row::{ChosenFrom, Names, Row};
use super::{Claim, Lease, LeaseState};
use crate::Attachment;

/// What the store needs of the world.
pub trait Host {
    /// The log, opened.
    type Log: LogFile;
    /// Held while a change is made.
    type Lock;

    /// Waits for its turn.
    ///
    /// # Errors
    /// [`IpamError::Locked`], [`IpamError::Io`], [`IpamError::Untrusted`].
    fn lock(&self) -> Result<Self::Lock, IpamError>;
    /// Opens the log. `None`: there is none.
    ///
    /// # Errors
    /// [`IpamError::Io`], [`IpamError::Untrusted`].
    fn open(&self) -> Result<Option<Self::Log>, IpamError>;
    /// Puts a whole log in the place of the old one, if any, durably, and opens it.
    ///
    /// # Errors
    /// As [`Host::open`]; the old log is then untouched.
    fn replace(&self, log: &[u8]) -> Result<Self::Log, IpamError>;
    /// Waits until the log's name leads to it after a power failure too.
    ///
    /// # Errors
    /// As [`Host::open`].
    fn sync_name(&self) -> Result<(), IpamError>;
    /// Keeps a damaged log's octets for people.
    ///
    /// # Errors
    /// As [`Host::open`].
    fn keep_damaged(&self, log: &[u8]) -> Result<(), IpamError>;
    /// Both clocks.
    fn now(&self) -> Now;
    /// Every pod that is wired on this node.
    ///
    /// # Errors
    /// Why the kernel cannot say, in words.
    fn links(&self) -> Result<Vec<Found>, String>;
    /// Whether the process still runs.
    fn is_alive(&self, process: Process) -> bool;
    /// The log's name, for errors.
    fn path(&self) -> PathBuf;
}

/// An opened log; it stays the same file when another takes its name.
pub trait LogFile {
    /// Octets of the file.
    ///
    /// # Errors
    /// What the system says.
    fn size(&self) -> io::Result<usize>;
    /// Fills `buffer` as far as the file goes and says how far.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, buffer: &mut [u8], offset: usize) -> io::Result<usize>;
    /// Writes all of `bytes`, within the file's size.
    ///
    /// # Errors
    /// What the system says; some of the octets may then be written.
    fn write_at(&self, bytes: &[u8], offset: usize) -> io::Result<()>;
    /// Waits until what was written is durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync(&self) -> io::Result<()>;
    /// Whether it still has the log's name.
    ///
    /// # Errors
    /// What the system says.
    fn is_current(&self) -> io::Result<bool>;
}

/// The ledger of one `stateDir`.
#[derive(Debug)]
pub struct Store<H: Host> {
    pub(super) host: H,
    boot_id: Vec<u8>,
    reuse_delay: Duration,
    /// Where the log ended after this store's last claim: [`Store::ready`] reads on from there.
    tail: RefCell<Option<Tail<H::Log>>>,
}

#[derive(Debug)]
struct Tail<L> {
    log: L,
    end: End,
    /// The row that was claimed.
    id: u64,
}

/// What the log is like, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// In use.
    Good,
    /// Not there: nothing was ever leased, or it was deleted.
    Missing,
    /// Of another boot: its rows are stale.
    EarlierBoot,
    /// Parts of it are lost; the next change makes it anew.
    Damaged,
}

/// A new log has this many octets at least: a few hundred changes before it is written anew.
const LEAST_OCTETS: usize = 128 * 1024;
/// The first piece that is read: a log of few rows fits.
const FIRST_PIECE_OCTETS: usize = 16 * 1024;
/// Room for the records of one change.
const CHANGE_OCTETS: usize = 2 * record::MOST_RECORD_OCTETS;
/// Room that claims leave to releases: addresses can be given back when the disk is full.
const RESERVE_OCTETS: usize = 8 * 1024;

/// What a change is: a release is let in where a claim is not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Claim,
    Release,
}

impl<H: Host> Store<H> {
    /// The ledger of `host`. Nothing is read or made yet.
    ///
    /// Rows of another `boot_id` do not count. `reuse_delay`: what is remembered when the log is written anew.
    pub fn new(host: H, boot_id: &str, reuse_delay: Duration) -> Self {
        let mut boot_id = boot_id.trim().as_bytes().to_vec();
        boot_id.truncate(MOST_BOOT_ID_OCTETS);
        Self { host, boot_id, reuse_delay, tail: RefCell::new(None) }
    }

    /// Leases addresses to an attachment; when this returns, no crash makes it undone.
    ///
    /// Calling again with the same attachment gives the same addresses. The row is an intent until
    /// [`Store::ready`].
    ///
    /// # Errors
    /// Every [`IpamError`]; nothing is leased then.
    pub fn claim(&self, claim: &Claim) -> Result<Lease, IpamError> {
        let now = self.host.now();
        let (lease, log, end) = self.change(Change::Claim, now, |ledger, out| {
            let decision = ledger.claim(claim, now)?;
            let lease = Lease::intent(claim, decision.addresses, now, out.sequence());
            if let Some(id) = decision.replaces {
                out.push(&Record::Release { id, at: now.unix_seconds });
            }
            push_lease(out, &lease, decision.chosen_from);
            Ok(lease)
        })?;
        if let Err(error) = log.sync() {
            let error = self.io("syncing", error);
            // Not durable, so not leased. A release that fails too leaves an intent, which GC ends.
            return self.release(&claim.attachment).and(Err(error));
        }
        *self.tail.borrow_mut() = Some(Tail { log, end, id: lease.id });
        Ok(lease)
    }

    /// Says that a lease's pod is wired. Not waited for on disk.
    ///
    /// # Errors
    /// [`IpamError::Overtaken`] when the row was released meanwhile: the ADD then undoes everything.
    pub fn ready(&self, lease: &Lease) -> Result<(), IpamError> {
        let tail = self.tail.borrow_mut().take();
        if let Some(tail) = tail.filter(|tail| tail.id == lease.id) {
            let _lock = self.host.lock()?;
            if self.ready_at(&tail)? {
                return Ok(());
            }
        }
        self.change(Change::Release, self.host.now(), |ledger, out| {
            match ledger.find(&lease.attachment) {
                Some(row) if row.id == lease.id => out.push(&Record::Ready(row.id)),
                _ => return Err(IpamError::Overtaken { attachment: lease.attachment.clone() }),
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Reads on from the claim. `false`: the whole log must be looked at.
    fn ready_at(&self, tail: &Tail<H::Log>) -> Result<bool, IpamError> {
        let failed = |error| self.io("reading", error);
        if !tail.log.is_current().map_err(failed)? {
            return Ok(false);
        }
        let mut since = Vec::new();
        let size = tail.log.size().map_err(failed)?;
        read_records(&tail.log, size, tail.end.offset, &mut since).map_err(failed)?;
        let mut is_released = false;
        let end = record::read(&since, 0, tail.end.sequence, |record| {
            is_released |= matches!(record, Record::Release { id, .. } if id == tail.id);
        });
        let Ok(end) = end else { return Ok(false) };
        let offset = tail.end.offset + end.offset;
        if is_released || end.torn || size.saturating_sub(offset) < CHANGE_OCTETS {
            return Ok(false);
        }
        let mut out = Writer::new(end.sequence);
        out.push(&Record::Ready(tail.id));
        tail.log.write_at(&out.into_bytes(), offset).map_err(|error| self.io("writing", error))?;
        Ok(true)
    }

    /// Gives an attachment's addresses back and returns what it had. Without a row, an ADD of the same attachment that
    /// began before now will be refused ([`super::ledger::TOMBSTONE_AGE`]). Not waited for on disk: after a power cut
    /// there is another boot, in which no row counts.
    ///
    /// # Errors
    /// [`IpamError::Locked`], [`IpamError::Io`] and what a log that must be made anew can meet.
    pub fn release(&self, who: &Attachment) -> Result<Option<Lease>, IpamError> {
        let now = self.host.now();
        let (lease, ..) = self.change(Change::Release, now, |ledger, out| {
            if let Some(row) = ledger.find(who) {
                out.push(&Record::Release { id: row.id, at: now.unix_seconds });
                return Ok(row.lease());
            }
            let mut names = Vec::new();
            Names::compose(who, &mut names);
            if let Some(names) = Names::decode(&names) {
                out.push(&Record::Tombstone { names, at: now.boot_time });
            }
            Ok(None)
        })?;
        Ok(lease)
    }

    /// An attachment's row, without waiting for anybody.
    ///
    /// # Errors
    /// [`IpamError::Io`], [`IpamError::Newer`].
    pub fn lease(&self, who: &Attachment) -> Result<Option<Lease>, IpamError> {
        self.view(|ledger, _| ledger.find(who).and_then(|row| row.lease()))
    }

    /// Every row, the oldest first, without waiting for anybody.
    ///
    /// # Errors
    /// [`IpamError::Io`], [`IpamError::Newer`].
    pub fn leases(&self) -> Result<Vec<Lease>, IpamError> {
        self.view(|ledger, _| ledger.leases())
    }

    /// Looks at the ledger as it is, without waiting for anybody; it is empty unless the log is [`Condition::Good`].
    ///
    /// # Errors
    /// [`IpamError::Io`], [`IpamError::Newer`].
    pub fn view<T>(&self, look: impl FnOnce(&Ledger<'_>, Condition) -> T) -> Result<T, IpamError> {
        let mut bytes = Vec::new();
        let empty = Ledger::default();
        let Some(_) = self.load(&mut bytes)? else { return Ok(look(&empty, Condition::Missing)) };
        let mut read = Ledger::read(&bytes);
        let again;
        if matches!(read, Err(LogError::Damaged(_))) {
            // Without the lock, records may be read half written: only what the lock does not cure is damage.
            let _lock = self.host.lock()?;
            let mut bytes = Vec::new();
            let Some(_) = self.load(&mut bytes)? else { return Ok(look(&empty, Condition::Missing)) };
            again = bytes;
            read = Ledger::read(&again);
        }
        match read {
            Ok((header, ledger, _)) if header.boot_id == self.boot_id => Ok(look(&ledger, Condition::Good)),
            Ok(_) => Ok(look(&empty, Condition::EarlierBoot)),
            Err(LogError::Damaged(_)) => Ok(look(&empty, Condition::Damaged)),
            Err(LogError::Newer(version)) => Err(IpamError::Newer { path: self.host.path(), version }),
        }
    }

    /// Enters a wired pod as its link tells it, in the place of the row it may have: the ledger follows the kernel.
    ///
    /// # Errors
    /// [`IpamError::Taken`] when another attachment leases one of the addresses; else as [`Store::claim`].
    pub fn adopt(&self, found: Found) -> Result<Lease, IpamError> {
        let now = self.host.now();
        let (lease, log, _) = self.change(Change::Claim, now, |ledger, out| {
            let old = ledger.find(&found.attachment);
            ledger.check_untaken(&found.addresses, old.map(|row| row.id))?;
            let known = old.and_then(|row| row.lease()).into_iter().collect();
            let rows = recover::rows(vec![found], known, now.unix_seconds, |_| false);
            let row = rows.into_iter().next().ok_or(IpamError::NoBlocks)?;
            let lease = Lease { id: out.sequence(), state: LeaseState::Ready, ..row };
            if let Some(row) = old {
                out.push(&Record::Release { id: row.id, at: now.unix_seconds });
            }
            push_lease(out, &lease, ChosenFrom::default());
            Ok(lease)
        })?;
        log.sync().map_err(|error| self.io("syncing", error))?;
        Ok(lease)
    }

    /// Makes a log that is missing, damaged or of another boot anew, now and not at the next change.
    ///
    /// # Errors
    /// As [`Store::release`].
    pub fn recover(&self) -> Result<(), IpamError> {
        self.change(Change::Release, self.host.now(), |_, _| Ok(())).map(|_| ())
    }

    /// One change under the lock: what `decide` writes is appended.
    fn change<T>(
        &self,
        change: Change,
        now: Now,
        decide: impl FnOnce(&Ledger<'_>, &mut Writer) -> Result<T, IpamError>,
    ) -> Result<(T, H::Log, End), IpamError> {
        let _lock = self.host.lock()?;
        let mut bytes = Vec::new();
        let mut log = self.load(&mut bytes)?;
        let mut is_named = false;
        loop {
            let renewed = match log {
                None => self.rebuild("missing", &Ledger::default(), Vec::new(), now)?,
                Some(log) => match Ledger::read(&bytes) {
                    Err(LogError::Newer(version)) => {
                        return Err(IpamError::Newer { path: self.host.path(), version });
                    }
                    Err(LogError::Damaged(_)) => {
                        self.load_all(&log, &mut bytes)?;
                        self.host.keep_damaged(&bytes)?;
                        let ledger = Ledger::salvage(&bytes);
                        self.rebuild("damaged", &ledger, ledger.leases(), now)?
                    }
                    Ok((header, ledger, _)) if header.boot_id != self.boot_id => {
                        self.rebuild("of an earlier boot", &ledger, Vec::new(), now)?
                    }
                    Ok((_, ledger, end)) if end.torn || !self.has_room(&log, end, change)? => {
                        self.rewrite(&ledger, end, now)?
                    }
                    Ok((header, ledger, end)) => {
                        if end.offset == header.whole_octets && !is_named {
                            // Nobody has written to it yet: who made it may have been killed before its name was
                            // durable.
                            self.host.sync_name()?;
                        }
                        return self.append(log, &ledger, end, decide);
                    }
                },
            };
            is_named = true;
            bytes.clear();
            log = Some(renewed);
            self.load_from(log.as_ref(), &mut bytes)?;
        }
    }

    fn append<T>(
        &self,
        log: H::Log,
        ledger: &Ledger<'_>,
        end: End,
        decide: impl FnOnce(&Ledger<'_>, &mut Writer) -> Result<T, IpamError>,
    ) -> Result<(T, H::Log, End), IpamError> {
        let mut out = Writer::new(end.sequence);
        let value = decide(ledger, &mut out)?;
        let sequence = out.sequence();
        let records = out.into_bytes();
        log.write_at(&records, end.offset).map_err(|error| self.io("writing", error))?;
        Ok((value, log, End { offset: end.offset + records.len(), sequence, torn: false }))
    }

    fn has_room(&self, log: &H::Log, end: End, change: Change) -> Result<bool, IpamError> {
        let size = log.size().map_err(|error| self.io("reading", error))?;
        let needed = match change {
            Change::Claim => CHANGE_OCTETS + RESERVE_OCTETS,
            Change::Release => CHANGE_OCTETS,
        };
        Ok(size.saturating_sub(end.offset) >= needed)
    }

    /// The same ledger without what is dead.
    fn rewrite(&self, ledger: &Ledger<'_>, end: End, now: Now) -> Result<H::Log, IpamError> {
        self.replace(record::whole(&self.boot_id, end.sequence, |out| {
            ledger.rewrite(out, self.reuse_delay, now, Rows::Keep);
        }))
    }

    /// A new log from the kernel's links, with what `old` still says.
    fn rebuild(
        &self,
        state: &'static str,
        old: &Ledger<'_>,
        leases: Vec<Lease>,
        now: Now,
    ) -> Result<H::Log, IpamError> {
        let links = self.host.links().map_err(|reason| IpamError::Unrecovered {
            path: self.host.path(),
            state,
            reason,
        })?;
        let mut rows = recover::rows(links, leases, now.unix_seconds, |process| self.host.is_alive(process));
        rows.sort_by_key(|row| if row.id == 0 { u64::MAX } else { row.id });
        // Above every sequence of an older log, so that an ADD that is under way cannot take another's row for its own.
        self.replace(record::whole(&self.boot_id, now.unix_seconds << 24, |out| {
            old.rewrite(out, self.reuse_delay, now, Rows::Drop);
            for row in &mut rows {
                if row.id == 0 {
                    row.id = out.sequence();
                }
                push_lease(out, row, ChosenFrom::default());
            }
        }))
    }

    fn replace(&self, mut log: Vec<u8>) -> Result<H::Log, IpamError> {
        let needed = 2 * log.len() + 2 * (CHANGE_OCTETS + RESERVE_OCTETS);
        log.resize(needed.next_multiple_of(4096).max(LEAST_OCTETS), 0);
        self.host.replace(&log)
    }

    fn load(&self, bytes: &mut Vec<u8>) -> Result<Option<H::Log>, IpamError> {
        bytes.clear();
        let log = self.host.open()?;
        self.load_from(log.as_ref(), bytes)?;
        Ok(log)
    }

    /// Also what lies behind the place where the records seem to end.
    fn load_all(&self, log: &H::Log, bytes: &mut Vec<u8>) -> Result<(), IpamError> {
        let read = log.size().and_then(|size| {
            bytes.resize(size, 0);
            log.read_at(bytes, 0)
        });
        read.map(|read| bytes.truncate(read)).map_err(|error| self.io("reading", error))
    }

    fn load_from(&self, log: Option<&H::Log>, bytes: &mut Vec<u8>) -> Result<(), IpamError> {
        let Some(log) = log else { return Ok(()) };
        log.size()
            .and_then(|size| read_records(log, size, 0, bytes))
            .map_err(|error| self.io("reading", error))
    }

    fn io(&self, doing: &'static str, source: io::Error) -> IpamError {
        IpamError::Io { doing, path: self.host.path(), source }
    }
}

fn push_lease(out: &mut Writer, lease: &Lease, chosen_from: ChosenFrom) {
    let mut payload = Vec::with_capacity(256);
    Row::compose(lease, chosen_from, &mut payload);
    let row = Row::decode(&payload).expect("a composed row is a row: its lengths are those of its parts");
    out.push(&Record::Claim(row));
}

/// Reads from `offset` (0, or where a record begins) until the records end, in growing pieces; all of a log that makes
/// no sense, for it must be judged as a whole.
fn read_records<L: LogFile>(log: &L, size: usize, offset: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut piece = FIRST_PIECE_OCTETS;
    let mut at = if offset == 0 { HEADER_OCTETS } else { 0 };
    loop {
        let have = bytes.len();
        bytes.resize((have + piece).min(size.saturating_sub(offset)), 0);
        let read = log.read_at(&mut bytes[have..], offset + have)?;
        bytes.truncate(have + read);
        if read == 0 {
            return Ok(());
        }
        match record::reach(bytes, at) {
            Reach::Ends => return Ok(()),
            Reach::GoesOn(next) => at = next,
            Reach::Strange => piece = size,
        }
        piece = piece.saturating_mul(2);
    }
}
