//! How far each way of announcing has come, in a ConfigMap: the next leader reads it.
//!
//! It is written a moment after something was announced, and not once for each record. What is remembered is the `resourceVersion` up to
//! which every record was announced; these grow by 1.35's rules of Kubernetes and in every etcd.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::{SelectAll, StreamExt};
use hatrack_api::SYSTEM_NAMESPACE;
use hatrack_service::log::Trouble;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::{BackoffLimits, Config};
use crate::failure::{Failure, Kind, within};

/// Name of the ConfigMap in `society-system`.
pub const NAME: &str = "hatrack-announced";

/// What was announced.
pub struct Memory {
    maps: Api<ConfigMap>,
    limit: Duration,
    period: Duration,
    limits: BackoffLimits,
}

impl Memory {
    /// That of this cluster.
    pub fn new(config: &Config, client: &Client) -> Self {
        Self {
            maps: Api::namespaced(client.clone(), SYSTEM_NAMESPACE),
            limit: config.api.request_timeout.get(),
            period: config.announce.remember.get(),
            limits: config.backoff,
        }
    }

    /// What the last leader remembered, however long it takes to read: without it everything recent would be announced again.
    pub async fn recall(&self) -> BTreeMap<String, u64> {
        let mut trouble = Trouble::default();
        let mut pause = self.limits.pause();
        loop {
            match within(self.limit, self.maps.get_opt(NAME)).await {
                Ok(map) => {
                    trouble.log_end("what was announced is known again");
                    let data = map.and_then(|map| map.data).unwrap_or_default();
                    return data.into_iter().filter_map(|(way, version)| Some((way, version.parse().ok()?))).collect();
                }
                Err(failure) => trouble.log("what was announced cannot be read", &failure, failure.hint()),
            }
            sleep(pause.again()).await;
        }
    }

    /// Writes down how far each way has come, for as long as it is not dropped.
    pub async fn keep(self, ways: &BTreeMap<&'static str, watch::Receiver<u64>>) {
        let mut changes: SelectAll<_> = ways.values().cloned().map(|way| changes(way).boxed()).collect();
        let mut trouble = Trouble::default();
        let mut written = BTreeMap::new();
        loop {
            let newest: BTreeMap<&str, String> =
                ways.iter().map(|(way, done)| (*way, done.borrow().to_string())).collect();
            if newest != written {
                match self.write(&newest).await {
                    Ok(()) => {
                        trouble.log_end("what was announced is remembered again");
                        written = newest;
                    }
                    Err(failure) => trouble.log("what was announced is not remembered", &failure, failure.hint()),
                }
                sleep(self.period).await;
            } else if changes.next().await.is_none() {
                return;
            }
        }
    }

    async fn write(&self, versions: &BTreeMap<&str, String>) -> Result<(), Failure> {
        let change = Patch::Merge(json!({"data": versions}));
        let written = within(self.limit, self.maps.patch(NAME, &PatchParams::default(), &change)).await;
        match written {
            Err(failure) if failure.kind() == Kind::NotFound => self.create(versions).await,
            written => written.map(drop),
        }
    }

    async fn create(&self, versions: &BTreeMap<&str, String>) -> Result<(), Failure> {
        let data = versions.iter().map(|(way, version)| ((*way).to_owned(), version.clone())).collect();
        let map = ConfigMap {
            metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
            data: Some(data),
            ..ConfigMap::default()
        };
        within(self.limit, self.maps.create(&PostParams::default(), &map)).await.map(drop)
    }
}

fn changes(way: watch::Receiver<u64>) -> impl futures::Stream<Item = ()> {
    futures::stream::unfold(way, async |mut way| way.changed().await.ok().map(|()| ((), way)))
}
