//! How long ago, in the words of kubectl.

use k8s_openapi::jiff::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// The time between two moments as kubectl writes it (`HumanDuration` of apimachinery): exact while it is young.
pub fn between(then: Timestamp, now: Timestamp) -> String {
    let age = now.as_second() - then.as_second();
    match age {
        ..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{age}s"),
        120..600 => pair(age, (MINUTE, 'm'), Some((1, 's'))),
        600..10_800 => pair(age, (MINUTE, 'm'), None),
        10_800..28_800 => pair(age, (HOUR, 'h'), Some((MINUTE, 'm'))),
        28_800..172_800 => pair(age, (HOUR, 'h'), None),
        172_800..691_200 => pair(age, (DAY, 'd'), Some((HOUR, 'h'))),
        691_200..63_072_000 => pair(age, (DAY, 'd'), None),
        63_072_000..252_288_000 => pair(age, (YEAR, 'y'), Some((DAY, 'd'))),
        _ => pair(age, (YEAR, 'y'), None),
    }
}

fn pair(seconds: i64, (large, large_unit): (i64, char), small: Option<(i64, char)>) -> String {
    let whole = format!("{}{large_unit}", seconds / large);
    match small.map(|(small, unit)| (seconds % large / small, unit)) {
        Some((rest, unit)) if rest > 0 => format!("{whole}{rest}{unit}"),
        _ => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_those_of_kubectl() {
        let cases = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (10 * MINUTE + 5, "10m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 20 * MINUTE, "3h20m"),
            (8 * HOUR + 20 * MINUTE, "8h"),
            (2 * DAY, "2d"),
            (3 * DAY + 4 * HOUR, "3d4h"),
            (8 * DAY + 4 * HOUR, "8d"),
            (700 * DAY, "700d"),
            (2 * YEAR, "2y"),
            (2 * YEAR + 3 * DAY, "2y3d"),
            (9 * YEAR, "9y"),
        ];
        for (seconds, words) in cases {
            let then = Timestamp::UNIX_EPOCH;
            let now = Timestamp::from_second(seconds).unwrap();
            assert_eq!(between(then, now), words, "{seconds} s");
        }
    }
}
