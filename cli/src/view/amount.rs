//! Amounts of bytes for people.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const UNITS: [(&str, f64); 11] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("", 1.0),
];

/// A quantity of memory in the largest binary unit, with at most one decimal: `15.6 GiB` for `16318480Ki`.
pub fn memory(quantity: &Quantity) -> String {
    in_units(quantity, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// A size of a disk in the decimal units of its label.
pub fn disk(quantity: &Quantity) -> String {
    in_units(quantity, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// What cannot be parsed is shown as it is.
fn in_units(quantity: &Quantity, step: f64, units: &[&str]) -> String {
    let Some(mut amount) = bytes(&quantity.0) else { return quantity.0.clone() };
    let mut unit = 0;
    while amount >= step && unit + 1 < units.len() {
        amount /= step;
        unit += 1;
    }
    let rounded = (amount * 10.0).round() / 10.0;
    let decimals = usize::from(rounded < 100.0 && rounded.fract() > 0.0);
    format!("{rounded:.decimals$} {}", units[unit])
}

fn bytes(text: &str) -> Option<f64> {
    UNITS.iter().find_map(|(suffix, factor)| Some(text.strip_suffix(suffix)?.parse::<f64>().ok()? * factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        let cases = [
            ("16318480Ki", "15.6 GiB"),
            ("80Gi", "80 GiB"),
            ("512", "512 B"),
            ("1536Mi", "1.5 GiB"),
            ("141Gi", "141 GiB"),
            ("junk", "junk"),
        ];
        for (quantity, words) in cases {
            assert_eq!(memory(&Quantity(quantity.to_owned())), words, "{quantity}");
        }
        assert_eq!(disk(&Quantity("2000398934016".to_owned())), "2 TB");
        assert_eq!(disk(&Quantity("512110190592".to_owned())), "512 GB");
    }
}
