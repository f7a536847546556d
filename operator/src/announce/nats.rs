//! A record as a message on NATS, with the record's name as its id.
//!
//! A session is one connection. It ends with the first failure, and what was in its buffers goes with it; the next begins by asking whether
//! a stream holds the subject, and which records that stream has already. So a message whose acknowledgement was lost is not sent
//! again, however long the server was away: the server itself knows an id for its `duplicate_window` alone.
//!
//! Without a stream a message counts as announced when the server has taken it, which an echo behind it shows.

use std::collections::HashSet;
use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::RequestErrorKind;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{Client, ConnectOptions, HeaderMap, Subscriber};
use futures::StreamExt;
use hatrack_api::HatSwap;
use hatrack_hats::ticks::{Targets, Tick, message_id};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::timeout;

use super::{Announced, Outcome, Way};
use crate::config::{self, Config};

/// How far the clock of the server may be before ours, when its messages are read back from a time on.
const CLOCKS_APART: SignedDuration = SignedDuration::from_hours(1);

/// Messages that are read back at once.
const BATCH: usize = 500;

/// What a server says that has no JetStream, or none for this account.
const NO_JETSTREAM: [ErrorCode; 2] = [ErrorCode::JETSTREAM_NOT_ENABLED, ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT];

/// A NATS server.
pub struct Nats {
    config: config::Nats,
    session: Option<Session>,
}

/// Why a record was not announced.
#[derive(Debug, thiserror::Error)]
enum NatsError {
    /// The file is not there or is none.
    #[error("failed to read the credentials `{0}`")]
    Credentials(std::path::PathBuf, #[source] std::io::Error),
    #[error("there is no connection to the NATS server")]
    Connect(#[from] async_nats::ConnectError),
    #[error("the NATS server does not say whether a stream holds the subject")]
    Lookup(#[source] async_nats::Error),
    #[error("the stream of the subject cannot be read back")]
    ReadBack(#[source] async_nats::Error),
    #[error("the NATS server did not take the message")]
    Publish(#[source] async_nats::Error),
    #[error("the NATS server did not answer within {0:?}")]
    Silent(Duration),
    #[error("a tick cannot be written as JSON")]
    Payload(#[from] serde_json::Error),
}

impl Nats {
    /// The server that the configuration names, if it names one.
    pub fn new(config: &Config) -> Option<Self> {
        config.nats.url.as_ref()?;
        Some(Self { config: config.nats.clone(), session: None })
    }

    async fn publish(&mut self, swap: &HatSwap, subject: &str) -> Result<Outcome, NatsError> {
        // A session that fails is dropped with its connection.
        let mut session = match self.session.take().filter(|session| session.subject == subject) {
            Some(session) => session,
            None => Box::pin(Session::begin(&self.config, subject, swap)).await?,
        };
        let outcome = session.publish(swap).await?;
        self.session = Some(session);
        Ok(outcome)
    }
}

impl Way for Nats {
    const NAME: &'static str = "nats";

    fn is_wanted(&self, _: &Targets) -> bool {
        true
    }

    async fn announce(&mut self, swap: &HatSwap, targets: &Targets) -> Announced {
        Ok(self.publish(swap, &targets.nats_subject).await?)
    }
}

/// A connection that has not failed yet.
struct Session {
    client: Client,
    subject: String,
    patience: Duration,
    delivery: Delivery,
}

enum Delivery {
    /// A stream holds the subject. It has these records already.
    Stream { context: Box<jetstream::Context>, holds: HashSet<String> },
    /// Nothing keeps what is sent.
    Core { inbox: String, echoes: Box<Subscriber> },
}

impl Session {
    /// Connects, and finds out what the server keeps from the time of `first` on.
    async fn begin(config: &config::Nats, subject: &str, first: &HatSwap) -> Result<Self, NatsError> {
        let patience = config.timeout.get();
        let client = within(patience, connect(config, patience)).await??;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(patience);
        let delivery = if let Some(stream) = stream_of(&context, subject).await? {
            tracing::info!(stream = stream.cached_info().config.name, subject, "records go to a stream of NATS");
            let holds = ids_since(&stream, subject, first, patience).await?;
            Delivery::Stream { context: Box::new(context), holds }
        } else {
            tracing::info!(subject, "records go to NATS; no stream holds the subject, so who is away misses them");
            let inbox = client.new_inbox();
            let echoes = client.subscribe(inbox.clone()).await.map_err(|error| NatsError::Publish(error.into()))?;
            Delivery::Core { inbox, echoes: Box::new(echoes) }
        };
        Ok(Self { client, subject: subject.to_owned(), patience, delivery })
    }

    async fn publish(&mut self, swap: &HatSwap) -> Result<Outcome, NatsError> {
        let id = message_id(swap);
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id);
        let payload = serde_json::to_vec(&Tick::of(swap))?.into();
        let subject = self.subject.clone();
        match &mut self.delivery {
            Delivery::Stream { holds, .. } if holds.contains(id) => Ok(Outcome::Known),
            Delivery::Stream { context, .. } => {
                let sent = async { context.publish_with_headers(subject, headers, payload).await?.await };
                let stored = within(self.patience, sent).await?.map_err(|error| NatsError::Publish(error.into()))?;
                Ok(if stored.duplicate { Outcome::Known } else { Outcome::Done })
            }
            Delivery::Core { inbox, echoes } => {
                let sent = async {
                    self.client.publish_with_headers(subject, headers, payload).await?;
                    self.client.publish(inbox.clone(), Vec::new().into()).await
                };
                within(self.patience, sent).await?.map_err(|error| NatsError::Publish(error.into()))?;
                let echo = within(self.patience, echoes.next()).await?;
                echo.map(|_| Outcome::Done).ok_or(NatsError::Silent(self.patience))
            }
        }
    }
}

async fn within<T>(patience: Duration, work: impl Future<Output = T>) -> Result<T, NatsError> {
    timeout(patience, work).await.map_err(|_| NatsError::Silent(patience))
}

async fn connect(config: &config::Nats, patience: Duration) -> Result<Client, NatsError> {
    let options = match &config.credentials {
        Some(file) => ConnectOptions::with_credentials_file(file)
            .await
            .map_err(|error| NatsError::Credentials(file.clone(), error))?,
        None => ConnectOptions::new(),
    };
    let options = match &config.certificate_authority {
        Some(file) => options.add_root_certificates(file.clone()),
        None => options,
    };
    let options = options.name("hatrack-operator").connection_timeout(patience).request_timeout(Some(patience));
    Ok(options.connect(config.url.as_deref().unwrap_or_default()).await?)
}

/// The stream that holds a subject; `None` if there is none, or no JetStream at all.
async fn stream_of(context: &jetstream::Context, subject: &str) -> Result<Option<Stream>, NatsError> {
    #[derive(Deserialize)]
    struct Names {
        streams: Option<Vec<String>>,
    }
    let names: Response<Names> = match context.request("STREAM.NAMES", &json!({"subject": subject})).await {
        Ok(names) => names,
        Err(error) if error.kind() == RequestErrorKind::NoResponders => return Ok(None),
        Err(error) => return Err(NatsError::Lookup(error.into())),
    };
    let name = match names {
        Response::Ok(names) => names.streams.unwrap_or_default().pop(),
        Response::Err { error } if NO_JETSTREAM.contains(&error.error_code()) => None,
        Response::Err { error } => return Err(NatsError::Lookup(error.into())),
    };
    let Some(name) = name else { return Ok(None) };
    context.get_stream(name).await.map(Some).map_err(|error| NatsError::Lookup(error.into()))
}

/// The ids of the messages that a stream took since a record was made.
async fn ids_since(
    stream: &Stream,
    subject: &str,
    first: &HatSwap,
    patience: Duration,
) -> Result<HashSet<String>, NatsError> {
    let made = first.spec.occurred_at.0.saturating_sub(CLOCKS_APART).unwrap_or(Timestamp::MIN);
    let start_time = OffsetDateTime::from_unix_timestamp(made.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let config = pull::Config {
        deliver_policy: DeliverPolicy::ByStartTime { start_time },
        ack_policy: AckPolicy::None,
        filter_subject: subject.to_owned(),
        headers_only: true,
        inactive_threshold: patience,
        ..pull::Config::default()
    };
    let failed = |error: async_nats::Error| NatsError::ReadBack(error);
    let consumer = within(patience, stream.create_consumer(config)).await?.map_err(|error| failed(error.into()))?;
    let mut ids = HashSet::new();
    let mut left = consumer.cached_info().num_pending;
    while left > 0 {
        let batch = consumer.fetch().max_messages(BATCH).messages();
        let mut batch = within(patience, batch).await?.map_err(|error| failed(error.into()))?;
        let before = left;
        while let Some(message) = within(patience, batch.next()).await? {
            let message = message.map_err(failed)?;
            let id = message.headers.as_ref().and_then(|headers| headers.get(NATS_MESSAGE_ID));
            ids.extend(id.map(ToString::to_string));
            left = left.saturating_sub(1);
        }
        // Messages that were deleted or expired meanwhile do not come.
        if left == before {
            break;
        }
    }
    Ok(ids)
}
