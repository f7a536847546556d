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
