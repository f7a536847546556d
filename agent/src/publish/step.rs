//! What is to be written next: a function of what is known.

use hatrack_api::cluster_node::{Class, WornHat};
use hatrack_api::{CLASS_LABEL, ClusterNode, ClusterNodeStatus, GROUP, VERSION};
use hatrack_discover::condition::Declared;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::status;
use crate::config::Config;
use crate::observe::Observation;
use crate::standing::Standing;

/// Everything that decides what is to be written.
#[derive(Debug)]
pub struct Situation<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// What the machine has.
    pub observation: &'a Observation,
    /// Whether this machine may speak for the object.
    pub standing: Standing,
    /// The object, if there is one.
    pub node: Option<&'a ClusterNode>,
    /// What is worn; absent while nobody knows.
    pub worn: Option<Vec<WornHat>>,
    /// The time.
    pub now: Timestamp,
    /// Whether the time in which awaited answers hold a write back is over.
    pub settled: bool,
}

/// What is to be written next.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Nothing: the object shows everything.
    Rest,
    /// Nothing yet, or never: why.
    Wait(String),
    /// The object, by server-side apply.
    Create(Value),
    /// `spec.hardwareID`, by a merge patch.
    Pin(Value),
    /// The status, by server-side apply.
    Status {
        /// What is sent.
        object: Value,
        /// The status in it.
        status: Box<ClusterNodeStatus>,
    },
}

/// What is to be written next.
pub fn next(situation: &Situation) -> Step {
    let Some(class) = situation.config.class else {
        return Step::Wait("the class of this machine is not configured".to_owned());
    };
    let hardware_id = situation.observation.inventory().hardware_id.as_deref().unwrap_or_default();
    match (&situation.standing, situation.node) {
        (Standing::Absent, _) => Step::Create(creation(situation.config, class, hardware_id)),
        (Standing::Unpinned, Some(node)) => Step::Pin(pinning(node, hardware_id)),
        (Standing::Ours, Some(node)) => status_step(situation, node, class),
        (standing, _) => Step::Wait(standing.to_string()),
    }
}

/// An object that shows this machine already stands as it is until everybody who is asked has answered: a restart removes
/// no fact. What answered before answers again within its own deadline, and `settled` is the limit for what never does.
fn status_step(situation: &Situation, node: &ClusterNode, class: Class) -> Step {
    let observation = situation.observation;
    if observation.state.names_are_new {
        return Step::Wait("names of devices are taken from the ClusterNode first".to_owned());
    }
    let is_shown = node.status.as_ref().is_some_and(|status| status.devices.is_some());
    if is_shown && !situation.settled && !observation.awaited.is_empty() {
        return Step::Wait(format!("waiting for {} to answer", observation.awaited.join(" and ")));
    }
    let Some(worn) = &situation.worn else {
        return Step::Wait("the hats have not been looked at yet".to_owned());
    };
    let declared = Declared { class, profile: situation.config.profile };
    let name = &situation.config.name;
    let desired = status::desired(name, observation.inventory(), node, worn, declared, situation.now);
    let shown = node.status.as_ref().map(status::ours).unwrap_or_default();
    if status::same(&desired, &shown) {
        return Step::Rest;
    }
    // With the version, so that a decision about this object is not written into another one that has taken its name.
    let metadata = json!({"name": name, "resourceVersion": node.metadata.resource_version});
    Step::Status { object: object(&metadata, "status", &json!(desired)), status: Box::new(desired) }
}

fn creation(config: &Config, class: Class, hardware_id: &str) -> Value {
    let mut spec = json!({"class": class, "hardwareID": hardware_id});
    if let Some(profile) = config.profile {
        spec["profile"] = json!(profile);
    }
    if let Some(expects) = config.expects.for_spec() {
        spec["expects"] = json!(expects);
    }
    let labels = json!({CLASS_LABEL: class});
    object(&json!({"name": config.name, "labels": labels}), "spec", &spec)
}

/// A merge patch and not an apply: an apply with this field alone would take back the fields of `spec` that the agent
/// applied when it created the object, and one with more would own what belongs to people.
fn pinning(node: &ClusterNode, hardware_id: &str) -> Value {
    json!({"metadata": {"resourceVersion": node.metadata.resource_version}, "spec": {"hardwareID": hardware_id}})
}

fn object(metadata: &Value, part: &str, content: &Value) -> Value {
    json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": "ClusterNode", "metadata": metadata, part: content})
}

#[cfg(test)]
mod tests {
    use hatrack_discover::inventory::Inventory;

    use super::*;
    use crate::state::State;

    fn observation(awaited: &[&'static str]) -> Observation {
        let inventory = Inventory { hardware_id: Some("id".to_owned()), ..Inventory::default() };
        let state = State { inventory, ..State::default() };
        Observation { state, awaited: awaited.to_vec() }
    }

    fn node(status: &Value) -> ClusterNode {
        let object = json!({
            "apiVersion": "society.zeta.io/v1alpha1", "kind": "ClusterNode",
            "metadata": {"name": "a", "resourceVersion": "7", "generation": 1},
            "spec": {"class": "worker", "hardwareID": "id"}, "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    fn step(observation: &Observation, standing: Standing, node: Option<&ClusterNode>, settled: bool) -> Step {
        let config = Config { name: "a".to_owned(), class: Some(Class::Worker), ..Config::default() };
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        next(&Situation { config: &config, observation, standing, node, worn: Some(Vec::new()), now, settled })
    }

    #[test]
    fn names_that_were_chosen_without_the_object_are_not_shown_in_it() {
        let mut seen = observation(&[]);
        seen.state.names_are_new = true;
        let waits = Step::Wait("names of devices are taken from the ClusterNode first".to_owned());
        assert_eq!(step(&seen, Standing::Ours, Some(&node(&json!({}))), true), waits);
    }

    #[test]
    fn only_a_machine_in_good_standing_writes() {
        let seen = observation(&[]);
        let another = Standing::Another { pinned: "b".to_owned(), ours: "id".to_owned() };
        for standing in [Standing::Unknown, Standing::Nameless, another] {
            let step = step(&seen, standing.clone(), Some(&node(&json!({}))), true);
            assert_eq!(step, Step::Wait(standing.to_string()));
        }
    }

    #[test]
    fn what_is_absent_is_created_and_what_is_unpinned_is_pinned() {
        let seen = observation(&[]);
        let Step::Create(object) = step(&seen, Standing::Absent, None, true) else { panic!("no creation") };
        assert_eq!(object["spec"], json!({"class": "worker", "hardwareID": "id"}));
        assert_eq!(object["metadata"], json!({"name": "a", "labels": {"society.zeta.io/class": "worker"}}));
        let Step::Pin(patch) = step(&seen, Standing::Unpinned, Some(&node(&json!({}))), true) else { panic!("no pin") };
        assert_eq!(patch, json!({"metadata": {"resourceVersion": "7"}, "spec": {"hardwareID": "id"}}));
    }

    #[test]
    fn what_is_shown_is_not_written_again() {
        let seen = observation(&[]);
        let Step::Status { status, object } = step(&seen, Standing::Ours, Some(&node(&json!(null))), true) else {
            panic!("no status")
        };
        assert_eq!(object["metadata"]["resourceVersion"], "7");
        let mut shown = json!(status);
        assert_eq!(step(&seen, Standing::Ours, Some(&node(&shown)), true), Step::Rest);
        shown["summary"]["gpus"] = json!("1/1");
        assert!(matches!(step(&seen, Standing::Ours, Some(&node(&shown)), true), Step::Status { .. }));
    }

    #[test]
    fn what_belongs_to_the_operator_is_no_difference() {
        let seen = observation(&[]);
        let Step::Status { status, object } = step(&seen, Standing::Ours, Some(&node(&json!(null))), true) else {
            panic!("no status")
        };
        assert!(object["status"].get("hats").is_none() && object["status"].get("worn").is_none());
        let mut shown = json!(status);
        shown["summary"]["hats"] = json!("h");
        shown["hats"] = json!([{"binding": "u", "name": "h", "wearer": "w", "phase": "Active"}]);
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        shown["conditions"].as_array_mut().unwrap().insert(0, ready);
        assert_eq!(step(&seen, Standing::Ours, Some(&node(&shown)), true), Step::Rest);
    }

    #[test]
    fn a_restart_waits_for_answers_and_a_first_registration_does_not() {
        let seen = observation(&["NVML", "the adb server"]);
        let shown = node(&json!({"devices": []}));
        let waiting = Step::Wait("waiting for NVML and the adb server to answer".to_owned());
        assert_eq!(step(&seen, Standing::Ours, Some(&shown), false), waiting);
        assert!(matches!(step(&seen, Standing::Ours, Some(&shown), true), Step::Status { .. }));
        let fresh = node(&json!(null));
        assert!(matches!(step(&seen, Standing::Ours, Some(&fresh), false), Step::Status { .. }));
    }
}
