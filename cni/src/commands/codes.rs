//! The codes of failed steps. What passes by itself is 11: the runtime tries again. Never 3: it lets a runtime leave
//! out DEL.

use crate::bandwidth::BandwidthError;
use crate::pod::{NetnsError, PodError};
use crate::rules::RulesError;
use crate::spec::{CniError, Code};

impl From<NetnsError> for CniError {
    fn from(error: NetnsError) -> Self {
        let code = match &error {
            NetnsError::Open { source, .. } if is_transient(source.raw_os_error()) => Code::TryAgainLater,
            NetnsError::Open { .. } | NetnsError::Other { .. } | NetnsError::Own { .. } => Code::InvalidNetns,
            NetnsError::Enter { .. } | NetnsError::Home(_) => Code::Kernel,
        };
        Self::new(code, error.to_string())
    }
}

impl From<PodError> for CniError {
    fn from(error: PodError) -> Self {
        let code = pod(&error);
        Self::new(code, error.to_string())
    }
}

fn pod(error: &PodError) -> Code {
    match error {
        PodError::Netns(NetnsError::Enter { .. } | NetnsError::Home(_)) | PodError::Enter(_) => Code::Kernel,
        PodError::Netns(_) => Code::InvalidNetns,
        PodError::InterfaceExists { .. } => Code::InterfaceExists,
        PodError::Unusable(_) | PodError::Source { .. } | PodError::NoIpv6 => Code::InvalidConfig,
        PodError::RouteTaken { .. } | PodError::ForeignLink { .. } | PodError::Sysctl { .. } => Code::Kernel,
        PodError::Overwritten(_) | PodError::Gone { .. } => Code::TryAgainLater,
        PodError::Kernel(error) => netlink(error),
        PodError::NotUndone { failure, .. } => pod(failure),
    }
}

impl From<RulesError> for CniError {
    fn from(error: RulesError) -> Self {
        let code = match &error {
            RulesError::Taken { .. } => Code::HostPortTaken,
            RulesError::Twice { .. } | RulesError::NoAddress { .. } | RulesError::Ipv6Loopback { .. } => {
                Code::InvalidConfig
            }
            RulesError::Unstable { .. } => Code::TryAgainLater,
            RulesError::Unsupported(_) => Code::Kernel,
            RulesError::Netlink(error) => netlink(error),
        };
        Self::new(code, error.to_string())
    }
}

impl From<BandwidthError> for CniError {
    fn from(error: BandwidthError) -> Self {
        let code = match &error {
            BandwidthError::Netlink(error) => netlink(error),
            BandwidthError::Unsupported(_) | BandwidthError::Foreign { .. } => Code::Kernel,
            BandwidthError::NoInterface(_) => Code::TryAgainLater,
        };
        Self::new(code, error.to_string())
    }
}

fn netlink(error: &netlink::Error) -> Code {
    let transient = matches!(error, netlink::Error::Unstable { .. }) || is_transient(error.errno());
    if transient { Code::TryAgainLater } else { Code::Kernel }
}

/// Refusals that pass by themselves.
fn is_transient(errno: Option<i32>) -> bool {
    const PASSING: [i32; 9] = [
        libc::EAGAIN,
        libc::EBUSY,
        libc::EINTR,
        libc::ENOMEM,
        libc::ENOBUFS,
        libc::ENFILE,
        libc::EMFILE,
        libc::ETIMEDOUT,
        libc::ENODEV,
    ];
    errno.is_some_and(|errno| PASSING.contains(&errno))
}
