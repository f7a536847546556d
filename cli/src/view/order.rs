//! The order in which people expect names.

use std::cmp::Ordering;

/// `gpu-2` before `gpu-10`: runs of digits are compared as numbers.
pub fn natural(a: &str, b: &str) -> Ordering {
    parts(a).cmp(parts(b)).then_with(|| a.cmp(b))
}

/// Text and number in turns; a number is its length without leading zeros and its digits, so that it has no limit.
fn parts(text: &str) -> impl Iterator<Item = (&str, usize, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (words, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, next) = tail.split_at(end);
        rest = next;
        let number = number.trim_start_matches('0');
        Some((words, number.len(), number))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_numbers() {
        let mut names =
            vec!["gpu-10", "gpu-2", "gpu", "gpu-2a", "pi-1", "gpu-02", "0000:00:14.0/3.10", "0000:00:14.0/3.9"];
        names.sort_by(|a, b| natural(a, b));
        let sorted = ["0000:00:14.0/3.9", "0000:00:14.0/3.10", "gpu", "gpu-02", "gpu-2", "gpu-2a", "gpu-10", "pi-1"];
        assert_eq!(names, sorted);
    }
}
