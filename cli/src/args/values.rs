//! Texts that are typed, as values.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use hatrack_api::cluster_node::{Class, Expects, Profile, check_name};
use hatrack_api::hat::Level;
use hatrack_api::hat_binding::ServiceAccountRef;
use jiff::Timestamp;
use jiff::civil::DateTime;

/// A name that a node can have.
pub fn node_name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

/// An address that proves itself by a certificate.
pub fn https_address(text: &str) -> Result<String, String> {
    let address = text.parse::<http::Uri>().ok().filter(|address| address.scheme_str() == Some("https"));
    let is_bare = |address: &http::Uri| matches!(address.path(), "" | "/") && address.query().is_none();
    address
        .filter(|address| address.host().is_some_and(|host| !host.is_empty()) && is_bare(address))
        .map(|_| text.trim_end_matches('/').to_owned())
        .ok_or_else(|| "an address as `https://10.0.0.1:6443` is needed".to_owned())
}

/// A class of nodes.
pub fn class() -> impl TypedValueParser<Value = Class> {
    one_of(Class::ALL, Class::as_str)
}

/// A profile of nodes.
pub fn profile() -> impl TypedValueParser<Value = Profile> {
    use Profile::{CloudHub, Community, Edge, HomeBusiness, Leaf};
    one_of([CloudHub, Community, HomeBusiness, Edge, Leaf], Profile::as_str)
}

/// One of a few values by its name in manifests; shells complete the names.
fn one_of<T, const N: usize>(values: [T; N], name: fn(T) -> &'static str) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let find = move |text: String| values.into_iter().find(|value| name(*value) == text);
    PossibleValuesParser::new(values.map(name)).try_map(move |text| find(text).ok_or("the name is unknown"))
}

/// What should be usable on a node.
pub fn expects(text: &str) -> Result<Expects, String> {
    let mut expects = Expects::default();
    for part in text.split(',') {
        let (kind, number) = part.split_once('=').ok_or_else(|| format!("`{part}` is not KIND=N"))?;
        let number = number.parse().ok().filter(|number| (0..=Expects::MOST).contains(number));
        let number = Some(number.ok_or_else(|| format!("`{part}`: a number from 0 to {} is needed", Expects::MOST))?);
        match kind {
            "gpus" => expects.gpus = number,
            "phones" => expects.phones = number,
            "accelerators" => expects.accelerators = number,
            _ => return Err(format!("`{kind}` is none of gpus, phones, accelerators")),
        }
    }
    Ok(expects)
}

/// A skill, and how good its bearer is at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkillAsked {
    /// Name of the skill.
    pub name: String,
    /// The lowest level that will do; absent: any, also one that nobody knows.
    pub level: Option<Level>,
}

/// A skill as `NAME` or `NAME=LEVEL`.
pub fn skill(text: &str) -> Result<SkillAsked, String> {
    let (name, level) = text.split_once('=').map_or((text, None), |(name, level)| (name, Some(level)));
    if name.is_empty() {
        return Err("it is not NAME or NAME=LEVEL".to_owned());
    }
    let known = |level: &str| Level::ALL.into_iter().find(|known| known.as_str() == level);
    let level = match level {
        Some(level) => Some(
            known(level).ok_or_else(|| format!("`{level}` is none of {}", Level::ALL.map(Level::as_str).join(", ")))?,
        ),
        None => None,
    };
    Ok(SkillAsked { name: name.to_owned(), level })
}

/// A wait.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|wait| !wait.is_zero()).ok_or_else(|| "a number of seconds above 0 is needed".to_owned())
}

/// A name that an object can have (RFC 1123), and a file of it.
pub fn object_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let inside = |byte: u8| allowed(byte) || byte == b'-' || byte == b'.';
    let ends = [text.bytes().next(), text.bytes().last()];
    if text.len() <= 253 && ends.iter().all(|end| end.is_some_and(allowed)) && text.bytes().all(inside) {
        return Ok(text.to_owned());
    }
    Err("lower-case letters, digits and, inside, `-` and `.` are allowed".to_owned())
}

/// A service account as `NAMESPACE/NAME`.
pub fn service_account(text: &str) -> Result<ServiceAccountRef, String> {
    let (namespace, name) = text.split_once('/').ok_or("it is not NAMESPACE/NAME")?;
    Ok(ServiceAccountRef { namespace: object_name(namespace)?, name: object_name(name)? })
}

/// A time: RFC 3339, or in the time zone of this machine with or without a date.
pub fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let zone = jiff::tz::TimeZone::system();
    let today = || jiff::Zoned::now().date();
    let civil = text.parse::<DateTime>().ok();
    let civil = civil.or_else(|| Some(today().to_datetime(text.parse::<jiff::civil::Time>().ok()?)));
    let zoned = civil.and_then(|civil| civil.to_zoned(zone).ok());
    let help = "a time as `2026-01-31T14:03:00Z`, `2026-01-31 14:03` or `14:03` is needed";
    zoned.map(|zoned| zoned.timestamp()).ok_or_else(|| help.to_owned())
}

/// A length of time such as `90s` or `8h`.
pub fn length(text: &str) -> Result<Duration, String> {
    let span = text.parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
    span.filter(|span| !span.is_zero()).ok_or_else(|| "a length of time as `90s`, `10m` or `8h` is needed".to_owned())
}

/// A time to come, or how long it is until then.
pub fn period(text: &str) -> Result<Timestamp, String> {
    if let Ok(length) = length(text) {
        return Timestamp::now().checked_add(length).map_err(|error| error.to_string());
    }
    let time = time(text).map_err(|_| "a time as `14:03` or a length as `8h` is needed".to_owned())?;
    if time > Timestamp::now() { Ok(time) } else { Err("this time is over".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_name_and_no_path() {
        for good in ["a", "repair-x7k2p", "a.b", "0"] {
            assert_eq!(object_name(good).as_deref(), Ok(good));
        }
        for bad in ["", "-a", "a-", "A", "a/b", "..", "../a", "a b", &"x".repeat(254)] {
            assert!(object_name(bad).is_err(), "{bad}");
        }
        assert_eq!(service_account("farm/ci").unwrap().namespace, "farm");
        assert!(service_account("ci").is_err() && service_account("farm/../ci").is_err());
    }

    #[test]
    fn a_skill_may_have_a_level() {
        let asked = |name: &str, level| SkillAsked { name: name.to_owned(), level };
        assert_eq!(skill("python"), Ok(asked("python", None)));
        assert_eq!(skill("python=expert"), Ok(asked("python", Some(Level::Expert))));
        for level in Level::ALL {
            assert_eq!(serde_json::to_value(level).unwrap(), level.as_str());
        }
        for bad in ["", "=expert", "python=", "python=Expert", "python=guru"] {
            assert!(skill(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_and_lengths_are_what_people_type() {
        assert_eq!(time("2026-01-31T14:03:00Z").unwrap().as_second(), 1_769_868_180);
        for good in ["14:03", "14:03:20", "2026-01-31 14:03", "2026-01-31"] {
            assert!(time(good).is_ok(), "{good}");
        }
        for bad in ["", "25:00", "yesterday", "2026-13-01"] {
            assert!(time(bad).is_err(), "{bad}");
        }
        assert_eq!(length("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(length("1h30m"), Ok(Duration::from_mins(90)));
        assert!(length("0s").is_err() && length("-1s").is_err() && length("soon").is_err());
        assert!(period("8h").is_ok() && period("2020-01-01T00:00:00Z").is_err());
    }
}
