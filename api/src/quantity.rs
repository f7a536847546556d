//! Kubernetes quantities of bytes.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const BINARY_UNITS: [(&str, u64); 6] =
    [("Ei", 1 << 60), ("Pi", 1 << 50), ("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];

/// Writes a number of bytes in the largest binary unit that holds it exactly, as Kubernetes' canonical form does.
///
/// ```
/// # use hatrack_api::quantity::from_bytes;
/// assert_eq!(from_bytes(8 << 30).0, "8Gi");
/// assert_eq!(from_bytes(1500).0, "1500");
/// assert_eq!(from_bytes(0).0, "0");
/// ```
pub fn from_bytes(bytes: u64) -> Quantity {
    let exact = BINARY_UNITS.iter().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size));
    Quantity(match exact {
        Some((unit, size)) => format!("{}{unit}", bytes / size),
        None => bytes.to_string(),
    })
}

const DECIMAL_UNITS: [(&str, i32); 9] =
    [("n", -9), ("u", -6), ("m", -3), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

/// Reads a quantity as a whole number, rounded up; `None` if it is none, is negative or is too large.
///
/// ```
/// # use hatrack_api::quantity::{from_bytes, to_whole};
/// # use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
/// assert_eq!(to_whole(&from_bytes(8 << 30)), Some(8 << 30));
/// assert_eq!(to_whole(&Quantity("1.5Gi".to_owned())), Some(1_610_612_736));
/// assert_eq!(to_whole(&Quantity("1500m".to_owned())), Some(2));
/// assert_eq!(to_whole(&Quantity("2e3".to_owned())), Some(2000));
/// for none in ["", "Gi", "-1", "1.2.3", "1Zi", "9e99", "1e"] {
///     assert_eq!(to_whole(&Quantity(none.to_owned())), None, "{none}");
/// }
/// ```
pub fn to_whole(quantity: &Quantity) -> Option<u128> {
    let text = quantity.0.as_str();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    let mantissa: u128 = digits.parse().ok()?;
    let (factor, exponent) = unit(suffix)?;
    let scaled = mantissa.checked_mul(factor)?;
    let shift = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = 10_u128.checked_pow(shift.unsigned_abs())?;
    if shift >= 0 { scaled.checked_mul(power) } else { Some(scaled.div_ceil(power)) }
}

/// The factor and the power of ten that a suffix stands for.
fn unit(suffix: &str) -> Option<(u128, i32)> {
    if suffix.is_empty() {
        return Some((1, 0));
    }
    if let Some((_, size)) = BINARY_UNITS.iter().find(|(unit, _)| *unit == suffix) {
        return Some((u128::from(*size), 0));
    }
    if let Some((_, power)) = DECIMAL_UNITS.iter().find(|(unit, _)| *unit == suffix) {
        return Some((1, *power));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    (exponent.abs() <= 30).then_some((1, exponent))
}
