//! What is to be done next with the target of one hat: a function of its wearers and of what its units do.

use std::time::Duration;

use super::record::{End, Record, Stage};

/// A unit, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// `ActiveState` (org.freedesktop.systemd1(5)).
    pub state: String,
    /// Whether a job for it is queued.
    pub has_job: bool,
}

impl Unit {
    /// Whether nothing of it runs or is about to.
    pub fn is_at_rest(&self) -> bool {
        !self.has_job && ["inactive", "failed"].contains(&self.state.as_str())
    }

    /// Whether it runs, and nobody has asked for anything else.
    pub fn is_active(&self) -> bool {
        !self.has_job && self.state == "active"
    }

    fn is_of(&self, binding: &str) -> bool {
        let instance = self.name.split_once('@').and_then(|(_, rest)| rest.rsplit_once('.'));
        instance.is_some_and(|(instance, _)| instance == binding)
    }
}

/// The target of a hat, and every unit that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units {
    /// `hat@<hat>.target`.
    pub target: Unit,
    /// Those that are part of it, and those that it pulls in.
    pub members: Vec<Unit>,
}

impl Units {
    /// Whether nothing runs.
    pub fn are_at_rest(&self) -> bool {
        self.target.is_at_rest() && self.members.iter().all(Unit::is_at_rest)
    }

    /// Names of what has not stopped.
    pub fn running(&self) -> Vec<&str> {
        self.members.iter().filter(|unit| !unit.is_at_rest()).map(|unit| unit.name.as_str()).collect()
    }

    /// Names of what failed.
    pub fn failed(&self) -> Vec<&str> {
        self.members.iter().filter(|unit| unit.state == "failed").map(|unit| unit.name.as_str()).collect()
    }
}

/// What the agent has asked the service manager for since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Orders {
    /// To start the target.
    pub start: bool,
    /// To stop it.
    pub stop: bool,
}

/// What is to be asked of the service manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Nothing now.
    Rest,
    /// To start the target.
    Start,
    /// To stop it.
    Stop,
}

/// What is to be done next with a hat; moves its records on. That a start was ordered is kept by who orders it. `patience` is how long
/// the units of one wearer alone may take to stop while the hat is worn by others.
///
/// One wearer of several ends alone if it has units of its own: instances named by its binding. Else nobody can tell what
/// uses its devices, and the target is stopped and started again for the others.
pub fn next(records: &mut [&mut Record], units: &Units, orders: &mut Orders, now: Duration, patience: Duration) -> Act {
    for record in records.iter_mut() {
        let binding = &record.assignment.binding;
        record.has_own_units |= units.members.iter().any(|unit| unit.is_of(binding) && !unit.is_at_rest());
    }
    for record in records.iter_mut().filter(|record| record.stage == Stage::Ending && !record.ordered) {
        record.stage = Stage::Ended;
    }
    if records.iter().any(|record| record.stage == Stage::Ending) {
        return end(records, units, orders, now, patience);
    }
    orders.stop = false;
    begin(records, units, orders)
}

fn end(records: &mut [&mut Record], units: &Units, orders: &mut Orders, now: Duration, patience: Duration) -> Act {
    let is_shared =
        records.iter().any(|record| [Stage::Starting, Stage::Worn].contains(&record.stage) && record.ordered);
    let mut whole = !is_shared;
    for record in records.iter_mut().filter(|record| record.stage == Stage::Ending && is_shared) {
        let mut own = units.members.iter().filter(|unit| unit.is_of(&record.assignment.binding));
        let is_late = record.ending_since.is_none_or(|since| now.saturating_sub(since) > patience);
        if !record.has_own_units || is_late || orders.stop {
            whole = true;
        } else if own.all(Unit::is_at_rest) {
            record.stage = Stage::Ended;
        }
    }
    if !whole {
        return Act::Rest;
    }
    if units.are_at_rest() {
        *orders = Orders::default();
        for record in records.iter_mut() {
            match record.stage {
                Stage::Ending => record.stage = Stage::Ended,
                Stage::Worn => record.stage = Stage::Starting,
                Stage::Starting | Stage::Ended => {}
            }
        }
        return Act::Rest;
    }
    if orders.stop {
        return Act::Rest;
    }
    *orders = Orders { start: false, stop: true };
    Act::Stop
}

fn begin(records: &mut [&mut Record], units: &Units, orders: &mut Orders) -> Act {
    let is_active = units.target.is_active();
    let mut starts = false;
    for record in records.iter_mut().filter(|record| record.stage == Stage::Starting) {
        if is_active {
            (record.stage, record.ordered) = (Stage::Worn, true);
        } else if units.target.is_at_rest() && !orders.start {
            starts = true;
        }
    }
    if !starts {
        return Act::Rest;
    }
    orders.start = true;
    Act::Start
}

/// Ends a hat, for the reason that weighs most.
pub fn end_for(record: &mut Record, end: End, now: Duration) {
    if record.stage != Stage::Ended && record.stage != Stage::Ending {
        record.stage = Stage::Ending;
        record.ending_since = Some(now);
    }
    if record.end != Some(End::Asked) {
        record.end = Some(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn record(binding: &str, stage: Stage, ordered: bool) -> Record {
        let assignment =
            serde_json::json!({"binding": binding, "name": "h", "wearer": "spiffe://a/b", "phase": "Active"});
        Record {
            assignment: serde_json::from_value(assignment).unwrap(),
            ends: None,
            transitions: 0,
            stage,
            end: None,
            ending_since: (stage == Stage::Ending).then_some(Duration::ZERO),
            ordered,
            has_own_units: false,
            reported: None,
        }
    }

    fn unit(name: &str, state: &str) -> Unit {
        Unit { name: name.to_owned(), state: state.to_owned(), has_job: false }
    }

    fn units(target: &str, members: &[(&str, &str)]) -> Units {
        let members = members.iter().map(|(name, state)| unit(name, state)).collect();
        Units { target: unit("hat@h.target", target), members }
    }

    fn step(records: &mut [Record], units: &Units, orders: &mut Orders, now: u64) -> Act {
        let mut records: Vec<&mut Record> = records.iter_mut().collect();
        next(&mut records, units, orders, Duration::from_secs(now), PATIENCE)
    }

    #[test]
    fn a_target_is_started_once() {
        let (mut records, mut orders) = (vec![record("u", Stage::Starting, false)], Orders::default());
        assert_eq!(step(&mut records, &units("inactive", &[]), &mut orders, 0), Act::Start);
        assert!(!records[0].ordered, "nothing is started if its files cannot be written");
        assert_eq!(step(&mut records, &units("activating", &[]), &mut orders, 0), Act::Rest);
        assert_eq!(step(&mut records, &units("active", &[]), &mut orders, 0), Act::Rest);
        assert_eq!(records[0].stage, Stage::Worn);
        // An agent that was killed in between finds it.
        let mut records = vec![record("u", Stage::Starting, true)];
        assert_eq!(step(&mut records, &units("active", &[]), &mut Orders::default(), 0), Act::Rest);
        assert_eq!(records[0].stage, Stage::Worn);
        let mut records = vec![record("u", Stage::Starting, true)];
        assert_eq!(step(&mut records, &units("inactive", &[]), &mut Orders::default(), 0), Act::Start);
    }

    #[test]
    fn a_target_that_somebody_stopped_is_not_started_again() {
        let mut records = vec![record("u", Stage::Worn, true)];
        assert_eq!(step(&mut records, &units("inactive", &[]), &mut Orders::default(), 0), Act::Rest);
    }

    #[test]
    fn the_last_wearer_ends_when_every_unit_is_inactive() {
        let (mut records, mut orders) = (vec![record("u", Stage::Ending, true)], Orders::default());
        assert_eq!(step(&mut records, &units("active", &[("a.service", "active")]), &mut orders, 0), Act::Stop);
        for slow in ["active", "deactivating", "activating"] {
            assert_eq!(step(&mut records, &units("inactive", &[("a.service", slow)]), &mut orders, 99), Act::Rest);
            assert_eq!(records[0].stage, Stage::Ending, "{slow}");
        }
        let mut queued = units("inactive", &[("a.service", "inactive")]);
        queued.members[0].has_job = true;
        step(&mut records, &queued, &mut orders, 99);
        assert_eq!(records[0].stage, Stage::Ending, "a job is queued");
        step(&mut records, &units("inactive", &[("a.service", "failed")]), &mut orders, 99);
        assert_eq!(records[0].stage, Stage::Ended);
    }

    #[test]
    fn what_was_never_started_has_ended() {
        let mut records = vec![record("u", Stage::Ending, false)];
        assert_eq!(step(&mut records, &units("inactive", &[]), &mut Orders::default(), 0), Act::Rest);
        assert_eq!(records[0].stage, Stage::Ended);
    }

    #[test]
    fn one_of_several_ends_alone_if_its_units_are_its_own() {
        let mut records = vec![record("u", Stage::Ending, true), record("v", Stage::Worn, true)];
        let (mut orders, own) =
            (Orders::default(), |state| units("active", &[("w@u.service", state), ("w@v.service", "active")]));
        assert_eq!(step(&mut records, &own("active"), &mut orders, 1), Act::Rest);
        assert_eq!(records[0].stage, Stage::Ending);
        let gone = units("active", &[("w@v.service", "active")]);
        assert_eq!(step(&mut records, &gone, &mut orders, 1), Act::Rest);
        assert_eq!((records[0].stage, records[1].stage), (Stage::Ended, Stage::Worn));
        let mut late = vec![record("u", Stage::Ending, true), record("v", Stage::Worn, true)];
        assert_eq!(step(&mut late, &own("active"), &mut orders, 31), Act::Stop);
    }

    #[test]
    fn one_of_several_that_share_units_ends_with_a_restart_of_all() {
        let mut records = vec![record("u", Stage::Ending, true), record("v", Stage::Worn, true)];
        let mut orders = Orders::default();
        assert_eq!(step(&mut records, &units("active", &[("w.service", "active")]), &mut orders, 1), Act::Stop);
        assert_eq!(step(&mut records, &units("inactive", &[("w.service", "inactive")]), &mut orders, 2), Act::Rest);
        assert_eq!((records[0].stage, records[1].stage), (Stage::Ended, Stage::Starting));
        assert_eq!(step(&mut records, &units("inactive", &[]), &mut orders, 2), Act::Start);
    }

    #[test]
    fn the_operators_word_is_final() {
        let mut ending = record("u", Stage::Worn, true);
        end_for(&mut ending, End::Silent, Duration::from_secs(1));
        end_for(&mut ending, End::Asked, Duration::from_secs(2));
        end_for(&mut ending, End::Fenced, Duration::from_secs(3));
        assert_eq!((ending.end, ending.ending_since), (Some(End::Asked), Some(Duration::from_secs(1))));
    }
}
