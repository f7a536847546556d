//! Identities as people say them.

/// A SPIFFE id without what is the same for everybody: `farm/ci` for `spiffe://cluster.local/ns/farm/sa/ci`, `people/ada` for a
/// person's.
pub fn short(spiffe_id: &str) -> String {
    let path =
        spiffe_id.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')).map_or(spiffe_id, |(_, path)| path);
    let account = path.strip_prefix("ns/").and_then(|rest| rest.split_once("/sa/"));
    account.map_or_else(|| path.to_owned(), |(namespace, name)| format!("{namespace}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same_for_everybody_is_left_out() {
        assert_eq!(short("spiffe://cluster.local/ns/farm/sa/ci"), "farm/ci");
        assert_eq!(short("spiffe://lab.example/people/ada"), "people/ada");
        assert_eq!(short("junk"), "junk");
    }
}
