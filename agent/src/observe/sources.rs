//! What makes the observer look.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hatrack_discover::hotplug::Hotplug;
use hatrack_discover::inventory::Answers;
use hatrack_discover::nvidia::{self, probe};
use hatrack_discover::phone::adb;
use hatrack_service::backoff::jittered;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::config::{Config, NvmlMode};
use crate::log::chain;

/// What makes the observer look, and the answers that it merges.
pub struct Sources {
    hotplug: Option<Hotplug>,
    nudge: Arc<Notify>,
    nvml: watch::Sender<nvidia::View>,
    nvml_heard: watch::Receiver<nvidia::View>,
    nvml_timing: probe::Timing,
    asks_nvml: bool,
    adb: watch::Receiver<adb::View>,
    asks_adb: bool,
    tasks: JoinSet<()>,
}

impl Sources {
    /// Opens hotplug, for a copy of a tree as well as for the machine itself, and begins to follow the adb server if one is configured.
    /// `told` is what NVML told before the agent was restarted: it stands until NVML answers again.
    pub fn open(config: &Config, told: Option<nvidia::Report>, nudge: Arc<Notify>) -> Self {
        let (nvml, nvml_heard) = watch::channel(match config.nvml.mode {
            NvmlMode::Auto => told.map_or(nvidia::View::Pending, nvidia::View::Report),
            NvmlMode::Off => nvidia::View::NotAsked,
        });
        let mut tasks = JoinSet::new();
        let adb = match config.adb.server {
            Some(server) => {
                let (views, heard) = watch::channel(adb::View::Pending);
                let timing = adb::Timing {
                    deadline: config.adb.deadline.get(),
                    phone_deadline: config.adb.phone_deadline.get(),
                    check: config.adb.check.get(),
                    retry: config.backoff.min.get(),
                    retry_at_most: config.backoff.max.get(),
                };
                tasks.spawn(adb::client::watch(server, timing, views));
                heard
            }
            None => watch::channel(adb::View::NotAsked).1,
        };
        Self {
            hotplug: open_hotplug(),
            nudge,
            nvml,
            nvml_heard,
            nvml_timing: probe::Timing { deadline: config.nvml.deadline.get(), interval: config.nvml.interval.get() },
            asks_nvml: false,
            adb,
            asks_adb: config.adb.server.is_some(),
            tasks,
        }
    }

    /// Begins to ask NVML, if that has not begun.
    pub fn ask_nvml(&mut self) {
        if self.asks_nvml {
            return;
        }
        self.asks_nvml = true;
        let (timing, views) = (self.nvml_timing, self.nvml.clone());
        self.tasks.spawn(async move {
            let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
            probe::watch(&program, timing, views).await;
        });
    }

    /// What NVML and the adb server have said so far.
    pub fn answers(&mut self) -> Answers {
        Answers { nvml: self.nvml_heard.borrow_and_update().clone(), adb: self.adb.borrow_and_update().clone() }
    }

    /// Waits until there is a reason to look, and names it; `idle` and a random part of it is the longest wait.
    pub async fn next(&mut self, idle: Duration) -> &'static str {
        loop {
            tokio::select! {
                event = next_event(&mut self.hotplug) => match event {
                    Ok(event) => {
                        tracing::debug!(?event, "something was plugged or unplugged");
                        return "hotplug";
                    }
                    Err(error) => {
                        tracing::error!(error = chain(&error), "changes are seen by the full pass alone");
                        self.hotplug = None;
                    }
                },
                Ok(()) = self.nvml_heard.changed() => return "nvml",
                answered = self.adb.changed(), if self.asks_adb => match answered {
                    Ok(()) => return "adb",
                    Err(_) => self.asks_adb = false,
                },
                () = self.nudge.notified() => return "asked",
                () = sleep(jittered(idle)) => return "pass",
            }
        }
    }
}

fn open_hotplug() -> Option<Hotplug> {
    Hotplug::open()
        .inspect_err(|error| tracing::error!(error = chain(error), "changes are seen by the full pass alone"))
        .ok()
}

async fn next_event(
    hotplug: &mut Option<Hotplug>,
) -> Result<hatrack_discover::hotplug::Event, hatrack_discover::hotplug::Ended> {
    match hotplug {
        Some(hotplug) => hotplug.changed().await,
        None => std::future::pending().await,
    }
}
