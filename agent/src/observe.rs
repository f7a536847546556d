//! What the machine has, kept true.
//!
//! * In: hotplug events, the answers of NVML and of the adb server, SIGHUP, the time.
//! * Out: the newest [`Observation`], and what the observer is doing ([`Activity`]).
//!
//! An event says that it is time to look, not what to believe. The first one is served at once; those that come while a look
//! is going on or has just ended are served together by the next. Looking reads files of sysfs, which a driver can hold up,
//! so it has a thread of its own.

mod rhythm;
mod sources;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hatrack_api::cluster_node::Device;
use hatrack_discover::doubt::Doubt;
use hatrack_discover::inventory::{self, Answers, Facts, Inventory};
use hatrack_discover::names::Names;
use hatrack_discover::nvidia;
use hatrack_discover::phone::adb;
use hatrack_discover::root::Root;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use self::rhythm::Rhythm;
use self::sources::Sources;
use crate::config::{Config, Discovery, NvmlMode};
use crate::metrics::Looks;
use crate::own::{Own, Seen};
use crate::standing::Standing;
use crate::state::State;

/// How long the first look waits for the ClusterNode when there is no state file to take names of devices from. Names that are chosen without
/// it are shown to nobody before it was seen ([`recover`]).
const NAMES_DEADLINE: Duration = Duration::from_secs(2);

/// What asks for the first look.
const START: &str = "start";

/// Another one after each boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What the machine has, as it was seen at one moment.
#[derive(Debug)]
pub struct Observation {
    /// What was seen, and the names that devices have had.
    pub state: State,
    /// Who has been asked and has not answered yet since the start: what it would tell is missing here.
    pub awaited: Vec<&'static str>,
}

impl Observation {
    /// What was seen.
    pub fn inventory(&self) -> &Inventory {
        &self.state.inventory
    }
}

/// What the observer is doing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Activity {
    /// Since when a look is going on.
    pub looking_since: Option<Instant>,
}

/// Where the observer's results go.
#[derive(Debug)]
pub struct Outputs {
    /// The newest observation; `None` before the first.
    pub observations: watch::Sender<Option<Arc<Observation>>>,
    /// What the observer is doing.
    pub activity: watch::Sender<Activity>,
    /// Counts looks.
    pub looks: Looks,
}

/// Keeps the newest [`Observation`] true.
pub struct Observer {
    root: Arc<Root>,
    timing: Discovery,
    nvml_mode: NvmlMode,
    sources: Sources,
    names: Names,
    names_are_new: bool,
    previous: Option<Inventory>,
    nvml: Option<nvidia::Report>,
    own: Own,
    outputs: Outputs,
}

impl Observer {
    /// `kept` is what the state file had; `nudge` makes the observer look at once.
    pub fn new(config: &Config, kept: Option<State>, own: Own, nudge: Arc<Notify>, outputs: Outputs) -> Self {
        let root = Arc::new(root(config));
        let nvml = kept.as_ref().and_then(|state| told_in_this_boot(state, &root));
        let sources = Sources::open(config, nvml.clone(), nudge);
        let names_are_new = kept.as_ref().is_none_or(|state| state.names_are_new);
        let (names, previous) = kept.map(|state| (state.names, state.inventory)).unzip();
        Self {
            root,
            timing: config.discovery,
            nvml_mode: config.nvml.mode,
            sources,
            names: names.unwrap_or_default(),
            names_are_new,
            previous,
            nvml,
            own,
            outputs,
        }
    }

    /// Runs without end.
    pub async fn run(mut self) {
        let mut rhythm = Rhythm::new(self.timing.coalesce.get());
        self.first_look().await;
        loop {
            rhythm.looked(Instant::now());
            let cause = self.cause().await;
            sleep(rhythm.wait(Instant::now())).await;
            self.look(cause, None).await;
        }
    }

    /// Waits for a reason to look. One is the first sight of the ClusterNode, while names are new.
    async fn cause(&mut self) -> &'static str {
        let mut own = self.own.subscribe();
        let ours = self.previous.as_ref().and_then(|inventory| inventory.hardware_id.as_deref());
        let seen = own.wait_for(|seen| self.names_are_new && names_of(seen, ours).is_some());
        tokio::select! {
            cause = self.sources.next(self.timing.full_pass.get()) => cause,
            Ok(_) = seen => "names",
        }
    }

    /// Without a state file the names of devices are those that the ClusterNode shows. It is read while the first look goes on.
    async fn first_look(&mut self) {
        if !self.names_are_new {
            return self.look(START, None).await;
        }
        let facts = spawn_blocking({
            let root = Arc::clone(&self.root);
            move || inventory::look(&root)
        });
        let mut own = self.own.subscribe();
        _ = timeout(NAMES_DEADLINE, own.wait_for(|seen| !matches!(seen, Seen::Unread))).await;
        self.look(START, facts.await.ok()).await;
    }

    /// Looks, unless `facts` are given, and puts them together with the answers.
    async fn look(&mut self, cause: &'static str, facts: Option<Facts>) {
        let began = Instant::now();
        self.outputs.activity.send_replace(Activity { looking_since: Some(began) });
        let (root, answers) = (Arc::clone(&self.root), self.sources.answers());
        let (mut names, mut previous) = (self.names.clone(), self.previous.clone());
        let (mut names_are_new, seen) = (self.names_are_new, self.own.get());
        let composed = spawn_blocking(move || {
            let facts = facts.unwrap_or_else(|| inventory::look(&root));
            if names_are_new && let Some(shown) = names_of(&seen, facts.hardware_id()) {
                recover(shown, &mut names, previous.as_mut());
                names_are_new = false;
            }
            let concern_nvml = facts.concern_nvml();
            let inventory = Inventory::compose(&root, facts, &answers, &mut names, previous.as_ref());
            (inventory, names, names_are_new, answers, concern_nvml)
        });
        match composed.await {
            Ok((inventory, names, names_are_new, answers, concern_nvml)) => {
                self.names_are_new = names_are_new;
                let asks_nvml = concern_nvml && self.nvml_mode == NvmlMode::Auto;
                self.publish(inventory, names, &answers, asks_nvml);
            }
            Err(error) => tracing::error!(%error, "looking at the machine failed: what was last seen stands"),
        }
        self.outputs.activity.send_replace(Activity::default());
        self.outputs.looks.ended(cause, began.elapsed());
    }

    fn publish(&mut self, mut inventory: Inventory, names: Names, answers: &Answers, asks_nvml: bool) {
        keep_hardware_id(&mut inventory, self.previous.as_ref());
        if asks_nvml {
            self.sources.ask_nvml();
        }
        for doubt in newly_doubted(&inventory, self.previous.as_ref()) {
            tracing::warn!(about = ?doubt.about, "what stands may not be all, or not be true any more: {doubt}");
        }
        let awaited = awaited(answers, asks_nvml);
        self.names.clone_from(&names);
        self.previous = Some(inventory.clone());
        let nvml =
            if let nvidia::View::Report(report) = &answers.nvml { Some(report.clone()) } else { self.nvml.take() };
        self.nvml.clone_from(&nvml);
        let state = State { names, names_are_new: self.names_are_new, inventory, nvml };
        let fresh = Observation { state, awaited };
        self.outputs.observations.send_if_modified(|last| {
            let same = last.as_ref().is_some_and(|last| last.state == fresh.state && last.awaited == fresh.awaited);
            if !same {
                *last = Some(Arc::new(fresh));
            }
            !same
        });
    }
}

/// The devices whose names count for this machine: those that its ClusterNode shows, none where it is new. `None` while that cannot be told.
fn names_of<'a>(seen: &'a Seen, ours: Option<&str>) -> Option<&'a [Device]> {
    match (Standing::of(seen, ours), seen) {
        (Standing::Absent, _) => Some(&[]),
        (Standing::Unpinned | Standing::Ours, Seen::Present(node)) => {
            Some(node.status.as_ref().and_then(|status| status.devices.as_deref()).unwrap_or_default())
        }
        _ => None,
    }
}

/// Takes the names that the ClusterNode shows in place of those that were chosen without it, and its devices as they were last seen.
fn recover(shown: &[Device], names: &mut Names, previous: Option<&mut Inventory>) {
    *names = Names::of_devices(shown);
    if let Some(previous) = previous {
        previous.devices = shown.to_vec();
    }
}

/// What NVML told since the machine booted. After a reboot it is history.
fn told_in_this_boot(state: &State, root: &Root) -> Option<nvidia::Report> {
    let boot = root.text(BOOT_ID).ok().flatten();
    state.nvml.clone().filter(|_| boot.is_some() && boot == state.inventory.identity.boot_id)
}

/// What can be told at this look no more.
fn newly_doubted<'a>(inventory: &'a Inventory, previous: Option<&'a Inventory>) -> impl Iterator<Item = &'a Doubt> {
    let known = previous.map(|previous| previous.doubts.as_slice()).unwrap_or_default();
    inventory.doubts.iter().filter(|doubt| !known.contains(doubt))
}

/// A hardware id that was read earlier in this same boot stands when it cannot be read now: the machine cannot have become
/// another one. After a reboot it can have: its disk may be in another machine.
fn keep_hardware_id(inventory: &mut Inventory, previous: Option<&Inventory>) {
    let boot = &inventory.identity.boot_id;
    if inventory.hardware_id.is_none()
        && let Some(previous) = previous
        && boot.is_some()
        && *boot == previous.identity.boot_id
    {
        inventory.hardware_id.clone_from(&previous.hardware_id);
    }
}

/// A phone that adb can use and that has not told of itself yet is awaited, too.
fn awaited(answers: &Answers, asks_nvml: bool) -> Vec<&'static str> {
    let phone_is_silent = |phone: &adb::Transport| phone.state == adb::State::Device && phone.told.is_none();
    let adb = match &answers.adb {
        adb::View::Pending => true,
        adb::View::Listed(phones) => phones.iter().any(phone_is_silent),
        adb::View::NotAsked | adb::View::Unreachable(_) => false,
    };
    let nvml = asks_nvml && answers.nvml == nvidia::View::Pending;
    [("NVML", nvml), ("the adb server", adb)].into_iter().filter_map(|(who, waits)| waits.then_some(who)).collect()
}

/// The tree that is looked at. What the service manager has read for this program is about the machine that it runs on, and about
/// no other.
fn root(config: &Config) -> Root {
    let root = Root::at(&config.root);
    match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(folder) if root.is_machine() => root.with_credentials(folder),
        _ => root,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(hardware_id: Option<&str>, boot_id: Option<&str>) -> Inventory {
        let mut inventory = Inventory { hardware_id: hardware_id.map(str::to_owned), ..Inventory::default() };
        inventory.identity.boot_id = boot_id.map(str::to_owned);
        inventory
    }

    #[test]
    fn a_hardware_id_outlives_a_failed_reading_but_no_reboot() {
        for (now, before, kept) in [
            (inventory(None, Some("boot")), inventory(Some("a"), Some("boot")), Some("a")),
            (inventory(Some("b"), Some("boot")), inventory(Some("a"), Some("boot")), Some("b")),
            (inventory(None, Some("boot")), inventory(Some("a"), Some("earlier boot")), None),
            (inventory(None, None), inventory(Some("a"), None), None),
        ] {
            let mut now = now;
            keep_hardware_id(&mut now, Some(&before));
            assert_eq!(now.hardware_id.as_deref(), kept, "{before:?}");
        }
    }

    #[test]
    fn who_has_not_answered_is_awaited() {
        let mut answers = Answers::default();
        assert!(awaited(&answers, true).is_empty(), "nobody is asked");
        answers.nvml = nvidia::View::Pending;
        assert!(awaited(&answers, false).is_empty(), "no GPU has its driver");
        assert_eq!(awaited(&answers, true), ["NVML"]);
        answers.nvml = nvidia::View::Report(nvidia::Report::default());
        assert!(awaited(&answers, true).is_empty());
        answers.adb = adb::View::Pending;
        assert_eq!(awaited(&answers, true), ["the adb server"]);
        let phone = adb::Transport { state: adb::State::Device, ..adb::Transport::default() };
        answers.adb = adb::View::Listed(vec![phone.clone()]);
        assert_eq!(awaited(&answers, true), ["the adb server"]);
        answers.adb = adb::View::Listed(vec![adb::Transport { told: Some(adb::Properties::default()), ..phone }]);
        assert!(awaited(&answers, true).is_empty());
    }
}
