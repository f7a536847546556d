//! How a world names a binding.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The UID of a binding, as a world keeps it.
///
/// API servers give UUIDs, and those are numbers: they are copied without allocation and compared without a look elsewhere, of which a decision
/// does little else. Any other text stays one. UUIDs have the order of their texts, before all other texts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Id {
    /// The upper and the lower half.
    Uuid(u64, u64),
    Text(Arc<str>),
}

/// Where the digits of a UUID stand, between hyphens.
const GROUPS: [Range<usize>; 5] = [0..8, 9..13, 14..18, 19..23, 24..36];
const DIGITS: &[u8; 16] = b"0123456789abcdef";

impl Id {
    /// None comes before it.
    pub const FIRST: Self = Self::Uuid(0, 0);
}

impl From<&str> for Id {
    fn from(uid: &str) -> Self {
        uuid(uid).map_or_else(|| Self::Text(uid.into()), |(upper, lower)| Self::Uuid(upper, lower))
    }
}

/// The halves of a UUID that is written as API servers write them; one that is written otherwise is another UID.
fn uuid(text: &str) -> Option<(u64, u64)> {
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    if [text[8], text[13], text[18], text[23]] != *b"----" {
        return None;
    }
    let [first, second, third, fourth, last] = GROUPS.map(|group| {
        text[group].iter().try_fold(0, |number, byte| match byte {
            b'0'..=b'9' => Some(number << 4 | u64::from(byte - b'0')),
            b'a'..=b'f' => Some(number << 4 | u64::from(byte - b'a' + 10)),
            _ => None,
        })
    });
    Some((first? << 32 | second? << 16 | third?, fourth? << 48 | last?))
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (upper, lower) = match self {
            Self::Uuid(upper, lower) => (*upper, *lower),
            Self::Text(text) => return f.write_str(text),
        };
        let mut text = [b'-'; 36];
        let numbers = [upper >> 32, upper >> 16, upper, lower >> 48, lower];
        for (group, mut number) in GROUPS.into_iter().zip(numbers) {
            for digit in text[group].iter_mut().rev() {
                *digit = DIGITS[(number & 0xf) as usize];
                number >>= 4;
            }
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    fn any(rng: &mut Rng) -> String {
        // Few digits, so that some begin alike.
        let digits: String = (0..36).map(|_| rng.choice(['0', '1', 'a', 'f']).unwrap()).collect();
        let mut text = digits.into_bytes();
        GROUPS[1..].iter().for_each(|group| text[group.start - 1] = b'-');
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_uuid_is_a_number_that_is_written_and_ordered_as_it_was() {
        let mut rng = Rng::new();
        println!("seed {}", rng.get_seed());
        for _ in 0..1000 {
            let (one, other) = (any(&mut rng), any(&mut rng));
            let ids = (Id::from(one.as_str()), Id::from(other.as_str()));
            assert!(matches!(ids.0, Id::Uuid(..)), "{one}");
            assert_eq!(ids.0.to_string(), one);
            assert_eq!(ids.0.cmp(&ids.1), one.cmp(&other), "{one} and {other}");
            assert!(Id::FIRST <= ids.0);
        }
    }

    #[test]
    fn what_is_written_otherwise_is_another_uid() {
        let uuid = "0a1b2c3d-0000-4000-8000-00000000000f";
        for other in [
            "",
            "uid-0001",
            "0A1B2C3D-0000-4000-8000-00000000000F",
            "0a1b2c3d-0000-4000-8000-00000000000g",
            "0a1b2c3d00000-4000-8000-00000000000f",
            "0a1b2c3d-0000-4000-8000-0000000000-f",
            "0a1b2c3d-0000-4000-8000-00000000000f0",
            "0a1b2c3d-0000-4000-8000-00000000000",
        ] {
            let id = Id::from(other);
            assert_eq!(id.to_string(), other);
            assert!(matches!(id, Id::Text(_)), "{other}");
            assert!(Id::from(uuid) < id);
        }
    }
}
