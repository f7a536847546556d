//! The tokens of machines.

use std::net::IpAddr;

use hatrack_api::cluster_node::Class;
use k8s_openapi::jiff::Timestamp;

use super::age;
use super::table::{Cell, Column, Table};
use crate::cluster::token::Token;
use crate::output::style;

/// One row for each.
pub fn table(tokens: &[Token], now: Timestamp) -> Table {
    let mut table = Table::new([
        Column::text("NODE"),
        Column::text("CLASS").spare(2),
        Column::text("ID"),
        Column::text("ENDS-IN"),
        Column::text("AGE").spare(1),
    ]);
    for token in tokens {
        let left = match token.expires {
            _ if token.has_ended(now) => Cell::new("ended", style::FAINT),
            Some(expires) => Cell::plain(age::between(now, expires)),
            None => Cell::new("never", style::CARE),
        };
        table.row([
            Cell::plain(&token.node),
            Cell::optional(token.class.map(Class::as_str)),
            Cell::plain(&token.id),
            left,
            Cell::optional(token.made.map(|made| age::between(made, now.max(made)))),
        ]);
    }
    table
}

/// All of them in one line.
pub fn summary(tokens: &[Token], now: Timestamp) -> String {
    let ended = tokens.iter().filter(|token| token.has_ended(now)).count();
    match (tokens.len(), ended) {
        (0, _) => "no tokens".to_owned(),
        (1, 0) => "1 token".to_owned(),
        (1, _) => "1 token, which has ended".to_owned(),
        (count, 0) => format!("{count} tokens"),
        (count, ended) => format!("{count} tokens, {ended} of them ended"),
    }
}

/// How long something can be used.
pub fn until(expires: Option<Timestamp>) -> String {
    expires.map_or_else(|| "until it is taken back".to_owned(), |expires| format!("until {expires}"))
}

/// Whether an address means the machine itself, whichever that is.
pub fn is_loopback(url: &str) -> bool {
    let address = url.parse::<http::Uri>().ok();
    let host = address.as_ref().and_then(http::Uri::host).unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_local = |address: IpAddr| address.is_loopback() || address.is_unspecified();
    host == "localhost" || host.ends_with(".localhost") || host.parse().is_ok_and(is_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn token(node: &str, id: &str, expires: Option<&str>) -> Token {
        let made = Some(at("2026-01-31T10:00:00Z"));
        Token { id: id.to_owned(), node: node.to_owned(), class: None, made, expires: expires.map(at) }
    }

    #[test]
    fn a_table_says_how_long_each_can_be_used() {
        let now = at("2026-01-31T12:00:00Z");
        let tokens = [
            token("phones-1", "abcdef", Some("2026-01-31T12:00:00Z")),
            token("pi-1", "ghijkl", Some("2026-02-01T10:00:00Z")),
            token("pi-2", "mnopqr", None),
        ];
        let text = table(&tokens, now).render(None, true, 0);
        let plain = anstream::adapter::strip_str(&text).to_string();
        let expected = "\
NODE      ID      ENDS-IN  AGE
phones-1  abcdef  ended    120m
pi-1      ghijkl  22h      120m
pi-2      mnopqr  never    120m
";
        assert_eq!(plain, expected);
        assert_eq!(summary(&tokens, now), "3 tokens, 1 of them ended");
        assert_eq!(summary(&[], now), "no tokens");
    }

    #[test]
    fn an_address_that_each_machine_has_is_told() {
        for local in ["https://127.0.0.1:6443", "https://localhost", "https://[::1]:6443", "https://0.0.0.0:6443"] {
            assert!(is_loopback(local), "{local}");
        }
        for other in ["https://10.0.0.1:6443", "https://[fd00::1]:6443", "https://cluster.example.org", "none"] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
