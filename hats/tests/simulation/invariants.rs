//! What must hold, in words of its own: this file reads the truth and knows no rule's code.

use std::collections::{BTreeMap, BTreeSet};

use hatrack_api::hat_binding::{Phase, VerdictAction};
use hatrack_api::hat_swap::{HatSwapSpec, Outcome, SwapEvent};
use hatrack_api::{Hat, HatBinding, HatBindingStatus, HatSwap};
use hatrack_hats::World;
use jiff::{SignedDuration, Timestamp};

use crate::cluster::{Cluster, RETENTION_DAYS, spiffe};

fn worn(phase: Phase) -> bool {
    matches!(phase, Phase::Warmup | Phase::Active | Phase::Probation)
}

fn after(time: Timestamp, seconds: i64) -> Timestamp {
    time + SignedDuration::from_secs(seconds)
}

/// A record is about to be written.
pub fn on_record(cluster: &Cluster, swap: &HatSwap) {
    let record = &swap.spec;
    let uid = &record.binding_ref.as_ref().unwrap().uid;
    let name = swap.metadata.name.as_ref().unwrap();
    if record.event == SwapEvent::Throttled {
        assert!(record.throttle_name.is_some() && record.outcome.is_none(), "{name}: a hold is no transition");
        return;
    }
    let outcome = record.outcome.as_ref().unwrap();
    let before = cluster.recorded.get(uid).map_or(Phase::Pending, |outcome| outcome.phase);
    let made = cluster.history.iter().filter(|known| is_transition_of(known, uid)).count();
    assert_eq!(*name, format!("{uid}-{}", made + 1), "exactly one record for each transition, numbered in order");
    assert!(!matches!(before, Phase::Revoked | Phase::Expired | Phase::Released), "{name}: something follows an end");
    if record.event == SwapEvent::SwapOff {
        assert_eq!(
            record.previous_wearer.as_ref().unwrap().spiffe_id,
            record.wearer.spiffe_id,
            "{name}: an end names its wearer"
        );
        assert!(!worn(outcome.phase), "{name}: off and still on");
    }
    let Some(binding) = cluster.bindings.get(uid) else { return };
    if !worn(before) && worn(outcome.phase) {
        goes_on(cluster, uid, binding, record, outcome);
    }
    if outcome.phase == Phase::Active && before != Phase::Active {
        becomes_active(cluster, binding, record, outcome);
    }
}

fn is_transition_of(swap: &HatSwap, uid: &str) -> bool {
    swap.spec.outcome.is_some() && swap.spec.binding_ref.as_ref().is_some_and(|binding| binding.uid == uid)
}

fn becomes_active(cluster: &Cluster, binding: &HatBinding, record: &HatSwapSpec, outcome: &Outcome) {
    let name = &binding.spec.hat;
    let hat = &cluster.hats[name];
    let warmup_ends = outcome.warmup_ends_at.as_ref().unwrap().0;
    assert!(warmup_ends <= record.occurred_at.0, "{name} is Active before the end of its warmup");
    let signers: BTreeSet<&String> = binding.spec.cosigned_by.iter().map(|entry| &entry.spiffe_id).collect();
    let others = signers.iter().filter(|signer| ***signer != binding.spec.wearer.spiffe_id).count();
    let throttles = hat.spec.throttles.clone().unwrap_or_default();
    let gated = throttles.quorum_gated == Some(true);
    let enough = i64::try_from(others).unwrap() >= throttles.quorum_size.unwrap_or(3);
    assert!(!gated || enough || is_the_first(cluster, binding), "{name} is Active without a quorum");
}

/// The bootstrap exception: this hat, this wearer, and nobody has been Active with a quorum.
fn is_the_first(cluster: &Cluster, binding: &HatBinding) -> bool {
    let by_quorum = |uid: &str| {
        cluster.history.iter().any(|swap| {
            is_transition_of(swap, uid)
                && swap.spec.event == SwapEvent::QuorumGrant
                && swap.spec.reason.as_deref() == Some("Quorum")
        })
    };
    let proved = cluster.recorded.iter().any(|(uid, outcome)| {
        outcome.phase == Phase::Active
            && cluster.bindings.get(uid).is_some_and(|other| other.spec.hat == "first")
            && by_quorum(uid)
    });
    binding.spec.hat == "first" && binding.spec.wearer.spiffe_id == spiffe("w0") && !proved
}

fn goes_on(cluster: &Cluster, uid: &str, binding: &HatBinding, record: &HatSwapSpec, outcome: &Outcome) {
    let (hat_name, wearer) = (&binding.spec.hat, &binding.spec.wearer.spiffe_id);
    let Some(hat) = cluster.hats.get(hat_name) else { panic!("{hat_name} goes on without its hat") };
    assert!(cluster.policy.is_some(), "{hat_name} goes on without a policy");
    let account = binding.spec.wearer.service_account_ref.as_ref().unwrap();
    assert_eq!(*wearer, spiffe(&account.name), "a wearer is not its service account");
    let latest =
        binding.spec.verdicts.iter().filter(|verdict| verdict.by != *wearer).max_by_key(|verdict| verdict.at.0);
    let probation = latest.is_some_and(|verdict| verdict.action == VerdictAction::Probation);
    assert!(!cluster.calm || !probation, "{hat_name} goes on while on probation");
    assert!(!reaches(cluster, hat, hat_name), "{hat_name} goes on and supervises itself");
    company(cluster, uid, binding, hat);
    past(cluster, binding, hat, record);
    place(cluster, uid, hat, outcome);
    let warmup = hat.spec.throttles.as_ref().and_then(|throttles| throttles.warmup_seconds).unwrap_or(20);
    let bound = outcome.bound_at.as_ref().unwrap().0;
    if bound == record.occurred_at.0 {
        assert_eq!(outcome.warmup_ends_at.as_ref().unwrap().0, after(bound, warmup), "{hat_name}: its own warmup");
    }
}

fn reaches(cluster: &Cluster, from: &Hat, name: &str) -> bool {
    from.spec.supervises.iter().any(|below| {
        below == name || cluster.hats.get(below).is_some_and(|hat| hat.spec.supervises.iter().any(|next| next == name))
    })
}

/// Who else wears what.
fn company(cluster: &Cluster, uid: &str, binding: &HatBinding, hat: &Hat) {
    let (hat_name, wearer) = (&binding.spec.hat, &binding.spec.wearer.spiffe_id);
    let on: Vec<&HatBinding> = cluster
        .recorded
        .iter()
        .filter(|(other, outcome)| *other != uid && worn(outcome.phase))
        .filter_map(|(other, _)| cluster.bindings.get(other))
        .collect();
    let same = i64::try_from(on.iter().filter(|other| other.spec.hat == *hat_name).count()).unwrap();
    assert!(hat.spec.max_wearers.is_none_or(|most| same < most), "{hat_name} has too many wearers");
    let names = |hat: Option<&Hat>, other: &str| {
        hat.and_then(|hat| hat.spec.throttles.as_ref())
            .is_some_and(|throttles| throttles.conflicts_with.iter().any(|name| name == other))
    };
    for other in on.iter().filter(|other| other.spec.wearer.spiffe_id == *wearer) {
        let other = &other.spec.hat;
        let conflict = names(Some(hat), other) || names(cluster.hats.get(other), hat_name);
        assert!(!conflict, "{wearer} wears the conflicting hats {hat_name} and {other}");
    }
    let worn_by_them = on.iter().filter(|other| other.spec.wearer.spiffe_id == *wearer).count();
    assert!(worn_by_them < 3, "{wearer} has too many live bindings");
}

/// What the wearer and the hat did before, by all records ever written.
fn past(cluster: &Cluster, binding: &HatBinding, hat: &Hat, record: &HatSwapSpec) {
    let (hat_name, wearer, now) = (&binding.spec.hat, &binding.spec.wearer.spiffe_id, record.occurred_at.0);
    let moved = record.reason.as_deref() == Some("Moved");
    let reason = |swap: &HatSwap| swap.spec.reason.clone().unwrap();
    let offs =
        cluster.history.iter().filter(|swap| swap.spec.event == SwapEvent::SwapOff && swap.spec.hat == *hat_name);
    let own = offs.clone().filter(|swap| swap.spec.wearer.spiffe_id == *wearer);
    let counted =
        own.filter(|swap| !["NodeLost", "DeviceLost", "HatGone", "Withdrawn"].contains(&reason(swap).as_str()));
    let cooldown = hat.spec.throttles.as_ref().and_then(|throttles| throttles.cooldown_seconds).unwrap_or(60);
    if let Some(last) = counted.map(|swap| swap.spec.occurred_at.0).max() {
        assert!(after(last, cooldown) <= now, "{wearer} takes {hat_name} again within the cooldown");
    }
    if !moved {
        let today = cluster.history.iter().filter(|swap| {
            swap.spec.wearer.spiffe_id == *wearer
                && matches!(swap.spec.event, SwapEvent::SwapOn | SwapEvent::WarmupBegin)
                && ["Admitted", "Succeeded"].contains(&reason(swap).as_str())
                && swap.spec.occurred_at.0 > after(now, -86_400)
        });
        assert!(today.count() < 5, "{wearer} puts on too many new hats in a day");
        let asked = binding.metadata.creation_timestamp.as_ref().unwrap().0;
        let ended = offs.filter(|swap| reason(swap) == "TermEnded").map(|swap| swap.spec.occurred_at.0).max();
        assert!(
            hat_name != "once" || ended.is_none_or(|ended| ended < asked),
            "{wearer} inherits a hat without succession"
        );
    }
}

/// Devices are nobody else's, by the records and on the machine itself.
fn place(cluster: &Cluster, uid: &str, hat: &Hat, outcome: &Outcome) {
    if hat.spec.requirements.is_none() {
        return;
    }
    let Some(node) = &outcome.node_name else { panic!("a hat with requirements goes on without a node") };
    for (other, known) in cluster.recorded.iter().filter(|(other, known)| *other != uid && worn(known.phase)) {
        let both = known.node_name.as_ref() == Some(node)
            && known.devices.iter().any(|device| outcome.devices.contains(device));
        assert!(!both, "{other} and {uid} have a device twice on {node}");
    }
    for (other, running) in cluster.machines[node].running.iter().filter(|(other, _)| *other != uid) {
        let both = running.devices.iter().any(|device| outcome.devices.contains(device));
        assert!(!both, "{other} still runs on a device of {uid}: a device twice on {node}");
    }
}

/// A status is about to be written.
pub fn on_status(cluster: &Cluster, uid: &str, known: &HatBinding, status: &HatBindingStatus) {
    let before = known.status.clone().unwrap_or_default();
    if before.transitions == status.transitions {
        assert_eq!(
            (before.phase, &before.devices),
            (status.phase, &status.devices),
            "{uid}: a change without a record"
        );
        return;
    }
    assert!(status.transitions > before.transitions, "{uid}: a transition is undone");
    let record = cluster.swaps.get(&format!("{uid}-{}", status.transitions));
    let Some(outcome) = record.and_then(|record| record.spec.outcome.as_ref()) else {
        panic!("{uid}: a status before its record");
    };
    assert_eq!(
        (outcome.phase, &outcome.devices, &outcome.node_name),
        (status.phase, &status.devices, &status.node_name)
    );
}

/// The operator has heard everything, and nothing is left to do.
pub fn when_up_to_date(cluster: &Cluster, world: &World) {
    for (uid, binding) in &cluster.bindings {
        let status = binding.status.clone().unwrap_or_default();
        let recorded = cluster.recorded.get(uid).map_or(Phase::Pending, |outcome| outcome.phase);
        assert_eq!(status.phase, recorded, "{uid}: the status is not what was recorded");
        if worn(status.phase) {
            let ends = status.expires_at.as_ref().map(|ends| ends.0);
            assert!(ends.is_none_or(|ends| ends > cluster.now.wall), "{uid} is worn past its term");
            assert!(binding.metadata.deletion_timestamp.is_none(), "{uid} is deleted and still worn");
        }
    }
    granted_exactly(cluster);
    assert_eq!(world.bindings().count(), cluster.bindings.len(), "the operator knows every binding");
}

fn granted_exactly(cluster: &Cluster) {
    for (uid, binding) in &cluster.bindings {
        let phase = binding.status.clone().unwrap_or_default().phase;
        let verbs: BTreeSet<String> = cluster
            .grants
            .values()
            .filter(|grant| grant.binding == *uid)
            .flat_map(|grant| {
                grant.rules.iter().filter(|rule| rule.resources.iter().flatten().any(|name| name == "pods"))
            })
            .flat_map(|rule| rule.verbs.clone())
            .collect();
        let whole: BTreeSet<String> = match cluster.hats.get(&binding.spec.hat) {
            Some(hat) => hat.spec.authority.rules.iter().flat_map(|rule| rule.verbs.clone()).collect(),
            None => BTreeSet::new(),
        };
        let expected: BTreeSet<String> = match phase {
            Phase::Active => whole,
            Phase::Warmup | Phase::Probation => ["get".to_owned()].into(),
            Phase::Pending | Phase::Revoked | Phase::Expired | Phase::Released => BTreeSet::new(),
        };
        assert_eq!(verbs, expected, "{uid}: authority in {phase}");
    }
    let orphan = cluster.grants.keys().find(|(uid, _)| !cluster.bindings.contains_key(uid));
    assert!(orphan.is_none(), "authority of nobody: {orphan:?}");
}

/// What the records that are kept say of the past.
pub fn in_calm(cluster: &Cluster, world: &World) {
    let oldest = cluster.latest - SignedDuration::from_hours(24 * RETENTION_DAYS);
    let hats: BTreeSet<&String> = cluster.history.iter().map(|swap| &swap.spec.hat).collect();
    for hat in hats {
        let stays = world.stays(hat).into_iter();
        let kept = stays.map(|stay| (stay.binding, stay.from, stay.to, stay.sticky_until));
        assert_eq!(since(oldest, kept), since(oldest, stays_of(cluster, hat)), "{hat}: who had it since {oldest}");
    }
    few_are_kept(cluster, oldest);
}

/// A binding, when its hat went on, when it came off, and until when it stuck.
type Span = (String, Timestamp, Option<Timestamp>, Option<Timestamp>);

/// By all records ever written.
fn stays_of(cluster: &Cluster, hat: &str) -> Vec<Span> {
    let mut stays: Vec<Span> = vec![];
    for record in cluster.history.iter().map(|swap| &swap.spec).filter(|record| record.hat == hat) {
        let (uid, Some(outcome)) = (&record.binding_ref.as_ref().unwrap().uid, &record.outcome) else { continue };
        let open = stays.iter_mut().find(|stay| stay.0 == *uid && stay.2.is_none());
        match open {
            Some(stay) if !worn(outcome.phase) => {
                stay.2 = Some(record.occurred_at.0);
                stay.3 = outcome.sticky_attribution_ends_at.as_ref().map(|until| until.0);
            }
            None if worn(outcome.phase) => stays.push((uid.clone(), record.occurred_at.0, None, None)),
            _ => {}
        }
    }
    stays
}

/// Those that reach into a time, from then on.
fn since(oldest: Timestamp, stays: impl IntoIterator<Item = Span>) -> BTreeSet<Span> {
    let reaches = |stay: &Span| stay.2.is_none_or(|to| to > oldest);
    stays.into_iter().filter(reaches).map(|(uid, from, to, sticky)| (uid, from.max(oldest), to, sticky)).collect()
}

/// Beside the ends, of which some hold a request, a binding keeps what restores it and what was on when the kept time began.
fn few_are_kept(cluster: &Cluster, oldest: Timestamp) {
    // The wall clock may have been set back since.
    let oldest = after(oldest, -1_200);
    let old = cluster.swaps.values().filter(|swap| swap.spec.occurred_at.0 < oldest && swap.spec.outcome.is_some());
    let mut kept: BTreeMap<&String, usize> = BTreeMap::new();
    for swap in old.filter(|swap| swap.spec.event != SwapEvent::SwapOff) {
        *kept.entry(&swap.spec.binding_ref.as_ref().unwrap().uid).or_default() += 1;
    }
    let many = kept.iter().find(|(_, count)| **count > 2);
    assert!(cluster.policy.is_none() || many.is_none(), "records that nobody needs are kept: {many:?}");
}

/// On no machine do two wearers have one device.
pub fn after_each_step(cluster: &Cluster) {
    for (name, machine) in &cluster.machines {
        let mut seen = BTreeSet::new();
        for device in machine.running.values().flat_map(|hat| &hat.devices) {
            assert!(seen.insert(device), "{name} runs a device twice: {device}");
        }
    }
}
