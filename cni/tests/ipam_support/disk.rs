//! A disk, a kernel and a clock in memory: programs are killed and the power fails between any two file operations.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use cni::ipam::store::{Host, LogFile};
use cni::ipam::{BootTime, Found, IpamError, Now, Process};

const SECTOR: usize = 512;

/// What outlives a program.
#[derive(Default)]
pub(crate) struct World {
    /// What the log's name leads to: for programs, and after a power failure.
    log: RefCell<Option<Rc<Contents>>>,
    durable_log: RefCell<Option<Rc<Contents>>>,
    /// File operations until the running program is killed.
    pub(crate) fuel: Cell<Option<u32>>,
    /// The pods that are wired.
    pub(crate) links: RefCell<Vec<Found>>,
    pub(crate) seconds: Cell<u64>,
    /// Where the next random number comes from.
    pub(crate) seed: Cell<u64>,
}

#[derive(Default)]
struct Contents {
    /// What programs see.
    cache: RefCell<Vec<u8>>,
    /// What a power failure leaves.
    durable: RefCell<Vec<u8>>,
}

impl World {
    /// One more file operation; the program is dead when it fails.
    fn step(&self) -> io::Result<()> {
        match self.fuel.get() {
            Some(0) => Err(io::Error::other("killed")),
            Some(left) => {
                self.fuel.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn random(&self, below: usize) -> usize {
        let next =
            self.seed.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.seed.set(next);
        (next >> 33) as usize % below.max(1)
    }

    /// Some of what was not synced is lost, sector by sector; so may be a rename. All pods are gone.
    pub(crate) fn power_failure(&self) {
        let name = if self.random(2) == 0 { self.durable_log.borrow() } else { self.log.borrow() }.clone();
        if let Some(contents) = &name {
            let cache = contents.cache.borrow();
            let mut durable = contents.durable.borrow_mut();
            durable.resize(cache.len(), 0);
            for start in (0..cache.len()).step_by(SECTOR) {
                if self.random(2) == 0 {
                    let end = (start + SECTOR).min(cache.len());
                    durable[start..end].copy_from_slice(&cache[start..end]);
                }
            }
        }
        if let Some(contents) = &name {
            *contents.cache.borrow_mut() = contents.durable.borrow().clone();
        }
        self.log.replace(name.clone());
        self.durable_log.replace(name);
        self.links.borrow_mut().clear();
    }

    /// One octet of the log changes by itself.
    pub(crate) fn rot(&self, at: usize) {
        if let Some(contents) = &*self.log.borrow() {
            let mut cache = contents.cache.borrow_mut();
            let used = cache.iter().rposition(|&octet| octet != 0).map_or(0, |last| last + 1);
            if used > 0 {
                cache[at % used] ^= 0x10;
            }
        }
    }
}

/// A program in the world.
#[derive(Clone)]
pub(crate) struct Program(pub(crate) Rc<World>);

/// The log as a program opened it.
pub(crate) struct Open {
    world: Rc<World>,
    contents: Rc<Contents>,
}

impl Program {
    fn io(error: io::Error) -> IpamError {
        IpamError::Io { doing: "simulating", path: PathBuf::from("ledger"), source: error }
    }
}

impl Host for Program {
    type Log = Open;
    type Lock = ();

    fn lock(&self) -> Result<(), IpamError> {
        Ok(())
    }

    fn open(&self) -> Result<Option<Open>, IpamError> {
        self.0.step().map_err(Self::io)?;
        let log = self.0.log.borrow().clone();
        Ok(log.map(|contents| Open { world: Rc::clone(&self.0), contents }))
    }

    fn replace(&self, log: &[u8]) -> Result<Open, IpamError> {
        // Written and synced beside the old one; renamed; the folder synced.
        self.0.step().map_err(Self::io)?;
        let contents = Rc::new(Contents { cache: log.to_vec().into(), durable: log.to_vec().into() });
        self.0.step().map_err(Self::io)?;
        self.0.log.replace(Some(Rc::clone(&contents)));
        self.0.step().map_err(Self::io)?;
        self.0.durable_log.replace(Some(Rc::clone(&contents)));
        Ok(Open { world: Rc::clone(&self.0), contents })
    }

    fn sync_name(&self) -> Result<(), IpamError> {
        self.0.step().map_err(Self::io)?;
        self.0.durable_log.replace(self.0.log.borrow().clone());
        Ok(())
    }

    fn keep_damaged(&self, _: &[u8]) -> Result<(), IpamError> {
        self.0.step().map_err(Self::io)
    }

    fn now(&self) -> Now {
        let seconds = self.0.seconds.get() + 1;
        self.0.seconds.set(seconds);
        Now { unix_seconds: seconds, boot_time: BootTime { nanoseconds: seconds * 1_000_000_000 } }
    }

    fn links(&self) -> Result<Vec<Found>, String> {
        Ok(self.0.links.borrow().clone())
    }

    fn is_alive(&self, _: Process) -> bool {
        true
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("ledger")
    }
}

impl LogFile for Open {
    fn size(&self) -> io::Result<usize> {
        self.world.step()?;
        Ok(self.contents.cache.borrow().len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: usize) -> io::Result<usize> {
        self.world.step()?;
        let cache = self.contents.cache.borrow();
        let read = buffer.len().min(cache.len().saturating_sub(offset));
        buffer[..read].copy_from_slice(&cache[offset..offset + read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: usize) -> io::Result<()> {
        let step = self.world.step();
        // A program that is killed while it writes has written a part.
        let written = if step.is_ok() { bytes.len() } else { self.world.random(bytes.len()) };
        let mut cache = self.contents.cache.borrow_mut();
        assert!(offset + bytes.len() <= cache.len(), "a write past the end changes metadata");
        cache[offset..offset + written].copy_from_slice(&bytes[..written]);
        step
    }

    fn sync(&self) -> io::Result<()> {
        self.world.step()?;
        *self.contents.durable.borrow_mut() = self.contents.cache.borrow().clone();
        Ok(())
    }

    fn is_current(&self) -> io::Result<bool> {
        self.world.step()?;
        let log = self.world.log.borrow();
        Ok(log.as_ref().is_some_and(|log| Rc::ptr_eq(log, &self.contents)))
    }
}
