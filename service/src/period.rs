//! A length of time as people write it.

use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A length of time above zero, written `10s`, `1m 30s`, `250ms`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(Duration);

impl Period {
    /// Whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Thousandths of a second.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// The length of time.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed = SignedDuration::try_from(self.0).unwrap_or(SignedDuration::MAX);
        write!(f, "{signed:#}")
    }
}

impl fmt::Debug for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let signed: SignedDuration = text
            .parse()
            .map_err(|_| D::Error::custom(format!("`{text}` is no length of time such as `10s` or `5m`")))?;
        let length = Duration::try_from(signed).ok().filter(|length| !length.is_zero());
        length.map(Self).ok_or_else(|| D::Error::custom(format!("`{text}` is not above zero")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_read_as_it_is_written() {
        for text in ["10s", "1m 30s", "250ms", "5m", "1h"] {
            let period: Period = serde_json::from_value(text.into()).unwrap();
            assert_eq!(period.to_string(), text);
        }
        for bad in ["", "0s", "-1s", "10", "1 month"] {
            assert!(serde_json::from_value::<Period>(bad.into()).is_err(), "{bad}");
        }
    }
}
