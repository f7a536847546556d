//! `hatrack token`: what machines enroll with.

mod file;

use hatrack_api::cluster_node::Class;
use hatrack_api::enrollment::{TokenFile, hash_text};
use k8s_openapi::jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde::Serialize;

use self::file::Destination;
use crate::Outcome;
use crate::args::{ClusterOptions, CreateToken, Format, ListTokens, RevokeToken, TokenVerb};
use crate::cluster::kubernetes::{Address, Kubernetes};
use crate::cluster::token::{NewToken, Token};
use crate::cluster::{Cluster, Missing};
use crate::output::style::{self, paint};
use crate::output::{Printer, lines};
use crate::view::tokens;

const SCHEMA: &str = "hatrack.tokens/v1";

/// A cluster that knows nobody has no tokens.
#[derive(Debug, thiserror::Error)]
#[error("a folder has no tokens: whoever writes into it is let in")]
pub struct NoTokens;

/// Nothing says by what a machine would know the cluster.
#[derive(Debug, thiserror::Error)]
#[error(
    "the kubeconfig names no certificate of the cluster's authority, and a machine trusts a server by nothing else"
)]
pub struct NoAuthority;

/// There is a token for the machine already.
#[derive(Debug, thiserror::Error)]
#[error("there is a token for {node} already ({id}), which can be used {}", tokens::until(*expires))]
pub struct StillUsable {
    /// The machine.
    pub node: String,
    id: String,
    expires: Option<Timestamp>,
}

/// Nobody has the file of a token, and without it the token is nothing.
#[derive(Debug, thiserror::Error)]
#[error("the token of {node} was taken back: nobody got its file")]
struct NotHandedOver {
    node: String,
    source: anyhow::Error,
}

/// Does what was typed.
pub async fn run(options: &crate::args::Token, printer: &Printer) -> anyhow::Result<Outcome> {
    match &options.verb {
        TokenVerb::Create(options) => create(options, printer).await,
        TokenVerb::List(options) => list(options, printer).await,
        TokenVerb::Revoke(options) => revoke(options, printer).await,
    }
}

async fn open(options: &ClusterOptions) -> anyhow::Result<Kubernetes> {
    match Cluster::open(options).await? {
        Cluster::Folder(_) => Err(NoTokens.into()),
        Cluster::Kubernetes(kubernetes) => Ok(*kubernetes),
    }
}

async fn create(options: &CreateToken, printer: &Printer) -> anyhow::Result<Outcome> {
    let cluster = open(&options.cluster).await?;
    let now = Timestamp::now();
    let new = NewToken::random(&options.name, options.class, options.ttl, now)?;
    let file = file_of(options, &cluster.address, &new)?;
    let mut earlier = cluster.tokens().await?;
    earlier.retain(|token| token.node == options.name);
    if let Some(usable) = earlier.iter().find(|token| !token.has_ended(now)).filter(|_| !options.replace) {
        let Token { id, node, expires, .. } = usable.clone();
        return Err(StillUsable { node, id, expires }.into());
    }
    // What cannot be written down need not be made.
    let destination = Destination::open(options.output_file.as_deref())?;
    if let Err(error) = cluster.add_token(&new).await {
        destination.abandon();
        return Err(error.into());
    }
    if let Err(source) = destination.write(&toml::to_string(&file)?, printer) {
        cluster.remove_token(&new.token).await?;
        return Err(NotHandedOver { node: file.name, source }.into());
    }
    if options.replace {
        for token in &earlier {
            cluster.remove_token(token).await?;
        }
    }
    report(&new.token, &file, printer);
    Ok(Outcome::Done)
}

fn file_of(options: &CreateToken, address: &Address, new: &NewToken) -> anyhow::Result<TokenFile> {
    if address.authority.is_empty() {
        return Err(NoAuthority.into());
    }
    let hash = |certificate: &Vec<u8>| hash_text(digest(&SHA256, certificate).as_ref());
    let file = TokenFile {
        name: options.name.clone(),
        class: options.class,
        server: options.server.clone().unwrap_or_else(|| address.server.clone()),
        ca_hashes: address.authority.iter().map(hash).collect(),
        token: new.credential(),
    };
    file.check()?;
    Ok(file)
}

fn report(token: &Token, file: &TokenFile, printer: &Printer) {
    let (ok, note) = (paint(style::GOOD, "ok:"), paint(style::CARE, "note:"));
    let (name, until) = (&token.node, tokens::until(token.expires));
    printer.note(&format!(
        "{ok} token {} is for {name} ({}), {until}: whoever has the file can become {name}",
        token.id, file.class
    ));
    if tokens::is_loopback(&file.server) {
        printer.note(&format!(
            "{note} {} is the machine itself wherever it is read: name the address that {name} reaches with `--server`",
            file.server
        ));
    }
}

/// The tokens, for programs.
#[derive(Serialize)]
struct Document {
    schema: &'static str,
    tokens: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    id: String,
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    made: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    /// Whether it can be used no more.
    ended: bool,
}

async fn list(options: &ListTokens, printer: &Printer) -> anyhow::Result<Outcome> {
    let found = open(&options.cluster).await?.tokens().await?;
    let now = Timestamp::now();
    let listed = |token: &Token| Listed {
        id: token.id.clone(),
        node: token.node.clone(),
        class: token.class.map(Class::as_str),
        made: token.made.map(|time| time.to_string()),
        expires: token.expires.map(|time| time.to_string()),
        ended: token.has_ended(now),
    };
    let output = &options.output;
    let document = Document { schema: SCHEMA, tokens: found.iter().map(listed).collect() };
    if printer.structured(output.output, &document)? {
        return Ok(Outcome::Done);
    }
    let text = match output.output {
        Format::Name => lines(found.iter().map(|token| &token.id)),
        form => {
            tokens::table(&found, now).render(printer.width.filter(|_| form != Format::Wide), !output.no_headers, 0)
        }
    };
    printer.data(&text)?;
    printer.note(&tokens::summary(&found, now));
    Ok(Outcome::Done)
}

async fn revoke(options: &RevokeToken, printer: &Printer) -> anyhow::Result<Outcome> {
    let cluster = open(&options.cluster).await?;
    let of = &options.of;
    let mut found = cluster.tokens().await?;
    found.retain(|token| token.node == *of || token.id == *of);
    if found.is_empty() {
        return Err(Missing { noun: "token", name: of.clone() }.into());
    }
    for token in &found {
        cluster.remove_token(token).await?;
        let (ok, Token { id, node, .. }) = (paint(style::GOOD, "ok:"), token);
        printer.note(&format!("{ok} token {id} is taken back: {node} cannot enroll with it any more"));
    }
    Ok(Outcome::Done)
}
