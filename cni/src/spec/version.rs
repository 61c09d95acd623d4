//! Versions of the specification: which this plugin speaks, and what each allows.

use std::fmt;

/// A version of the CNI specification this plugin speaks, in order of age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 0.3.1: ADD and DEL; results list interfaces.
    V0_3_1,
    /// 0.4.0: CHECK; DEL gets the previous result.
    V0_4_0,
    /// 1.0.0: `ips[].version` is gone.
    V1_0_0,
    /// 1.1.0: GC and STATUS; results carry MTUs.
    V1_1_0,
}

impl Version {
    /// All versions, the oldest first: what VERSION answers.
    pub const ALL: [Self; 4] = [Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
    /// What errors are written in when the request's own version is not known.
    pub const NEWEST: Self = Self::V1_1_0;

    /// The version of this name, if this plugin speaks it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }

    /// As `cniVersion` writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_of_known_versions_are_versions() {
        for version in Version::ALL {
            assert_eq!(Version::parse(version.as_str()), Some(version));
        }
        for other in ["", "0.1.0", "0.3.0", "1.0", "1.2.0", "v1.0.0", " 1.0.0"] {
            assert_eq!(Version::parse(other), None, "{other:?}");
        }
        assert!(Version::ALL.is_sorted());
    }
}
