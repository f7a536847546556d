//! Short names for what decides something, for folders of caches and servers.

use ring::digest::{Context, SHA256};

/// 16 hexadecimal digits that depend on every byte of `parts` and on nothing else.
pub fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    let digest = context.finish();
    let number = digest.as_ref().iter().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    format!("{number:016x}")
}
