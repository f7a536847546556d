//! What the service manager tells of units, kept to what concerns hats and to what is not known already.
//!
//! Each look loads units, and a unit that nothing refers to is collected at once: the service manager tells of both, as of every unit
//! of the machine. An agent that took that for news would look for ever.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use zbus::message::Header;
use zbus::{Message, ObjectPath, Variant};

use super::step::Units;
use super::systemd::{MANAGER, PATH, PROPERTIES, UNIT};

/// What was heard since the last look, beside what was seen then.
#[derive(Debug, Default)]
pub struct Heard {
    /// By the name of the hat, `ActiveState` of its units.
    looked: BTreeMap<String, BTreeMap<String, String>>,
    states: BTreeMap<String, String>,
    /// A job of one of these units is done, or unit files were read anew.
    is_other: bool,
}

impl Heard {
    /// Keeps what a signal says, if it is about a hat; returns whether it is.
    pub fn signal(&mut self, message: &Message) -> bool {
        let header = message.header();
        let (Some(interface), Some(member)) = (header.interface(), header.member()) else { return false };
        match (interface.as_str(), member.as_str()) {
            (PROPERTIES, "PropertiesChanged") => self.state(&header, message),
            (MANAGER, "JobRemoved") => {
                let body = message.body();
                let job: Result<(u32, ObjectPath<'_>, &str, &str), _> = body.deserialize();
                let is_ours = job.is_ok_and(|(_, _, unit, _)| self.concerns(unit));
                self.is_other |= is_ours;
                is_ours
            }
            (MANAGER, "Reloading") => {
                let is_done = message.body().deserialize().is_ok_and(|begins: bool| !begins);
                self.is_other |= is_done;
                is_done
            }
            _ => false,
        }
    }

    fn state(&mut self, header: &Header<'_>, message: &Message) -> bool {
        let unit = header.path().and_then(|path| unit_of(path.as_str())).filter(|unit| self.concerns(unit));
        let Some(unit) = unit else { return false };
        let body = message.body();
        let Ok((UNIT, changed, _)) = body.deserialize::<(&str, HashMap<&str, Variant<'_>>, Vec<&str>)>() else {
            return false;
        };
        let Some(Variant::Str(state)) = changed.get("ActiveState") else { return false };
        self.states.insert(unit, state.as_str().to_owned());
        true
    }

    fn concerns(&self, unit: &str) -> bool {
        hat_of(unit).is_some() || self.looked.values().any(|units| units.contains_key(unit))
    }

    /// Whether something is otherwise than it was last seen; what was heard is forgotten.
    pub fn is_news(&mut self) -> bool {
        let states = std::mem::take(&mut self.states);
        let seen =
            |unit: &str| self.looked.values().find_map(|units| units.get(unit)).map_or("inactive", String::as_str);
        let has_changed = states.iter().any(|(unit, state)| seen(unit) != state);
        std::mem::take(&mut self.is_other) || has_changed
    }

    /// Keeps what was seen of a hat.
    pub fn looked(&mut self, hat: &str, units: &Units) {
        let all = units.members.iter().chain([&units.target]);
        self.looked.insert(hat.to_owned(), all.map(|unit| (unit.name.clone(), unit.state.clone())).collect());
    }

    /// Forgets the hats that are not among these.
    pub fn keep(&mut self, hats: &BTreeSet<String>) {
        self.looked.retain(|hat, _| hats.contains(hat));
    }
}

/// The hat that a target is of.
pub fn hat_of(unit: &str) -> Option<&str> {
    unit.strip_prefix("hat@")?.strip_suffix(".target")
}

/// The unit at an object path: every byte that is no letter or digit stands there as `_` and its number.
fn unit_of(path: &str) -> Option<String> {
    let label = path.strip_prefix(PATH)?.strip_prefix("/unit/")?;
    let mut name = Vec::new();
    let mut rest = label.as_bytes();
    while let [first, after @ ..] = rest {
        rest = if *first == b'_' {
            let (number, after) = after.split_at_checked(2)?;
            name.push(u8::from_str_radix(str::from_utf8(number).ok()?, 16).ok()?);
            after
        } else {
            name.push(*first);
            after
        };
    }
    String::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::step::Unit;
    use super::*;

    fn path(unit: &str) -> String {
        let escaped = |byte: u8| {
            if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("_{byte:02x}") }
        };
        format!("{PATH}/unit/{}", unit.bytes().map(escaped).collect::<String>())
    }

    fn changed(unit: &str, property: &str, value: &str) -> Message {
        let body = (UNIT, HashMap::from([(property, Variant::from(value))]), Vec::<&str>::new());
        Message::signal(path(unit), PROPERTIES, "PropertiesChanged").build(&body).unwrap()
    }

    fn job(unit: &str) -> Message {
        let job = ObjectPath::try_from("/org/freedesktop/systemd1/job/1").unwrap();
        Message::signal(PATH, MANAGER, "JobRemoved").build(&(1u32, job, unit, "done")).unwrap()
    }

    fn unit(name: &str, state: &str) -> Unit {
        Unit { name: name.to_owned(), state: state.to_owned(), has_job: false }
    }

    fn worn() -> Heard {
        let mut heard = Heard::default();
        let members = vec![unit("work-a.service", "active")];
        heard.looked("repair", &Units { target: unit("hat@repair.target", "active"), members });
        heard
    }

    fn is_news(heard: &mut Heard, signal: &Message) -> bool {
        let is_kept = heard.signal(signal);
        let is_news = heard.is_news();
        assert!(is_kept || !is_news);
        is_news
    }

    #[test]
    fn another_state_of_a_unit_of_a_hat_is_news_and_the_same_is_not() {
        let mut heard = worn();
        assert!(is_news(&mut heard, &changed("hat@repair.target", "ActiveState", "inactive")));
        assert!(is_news(&mut heard, &changed("work-a.service", "ActiveState", "failed")));
        assert!(!is_news(&mut heard, &changed("hat@repair.target", "ActiveState", "active")));
        assert!(!is_news(&mut heard, &changed("work-a.service", "SubState", "running")));
        assert!(!is_news(&mut heard, &changed("other.service", "ActiveState", "failed")));
    }

    #[test]
    fn a_target_that_nobody_has_looked_at_is_news_when_it_runs() {
        let mut heard = Heard::default();
        assert!(is_news(&mut heard, &changed("hat@stray.target", "ActiveState", "active")));
        // A look loads it, and it is collected.
        assert!(!is_news(&mut heard, &changed("hat@stray.target", "ActiveState", "inactive")));
    }

    #[test]
    fn what_a_look_itself_brings_about_is_no_news() {
        let mut heard = worn();
        for member in ["UnitNew", "UnitRemoved"] {
            let target = ObjectPath::try_from(path("hat@repair.target")).unwrap();
            let signal = Message::signal(PATH, MANAGER, member).build(&("hat@repair.target", target)).unwrap();
            assert!(!is_news(&mut heard, &signal), "{member}");
        }
    }

    #[test]
    fn jobs_of_these_units_are_news_and_so_are_new_unit_files() {
        let mut heard = worn();
        assert!(is_news(&mut heard, &job("work-a.service")) && is_news(&mut heard, &job("hat@other.target")));
        assert!(!is_news(&mut heard, &job("run-container.scope")));
        let reloading = |begins: bool| Message::signal(PATH, MANAGER, "Reloading").build(&(begins,)).unwrap();
        assert!(!is_news(&mut heard, &reloading(true)) && is_news(&mut heard, &reloading(false)));
        heard.keep(&BTreeSet::new());
        assert!(!is_news(&mut heard, &job("work-a.service")), "it is of no hat any more");
    }

    #[test]
    fn a_path_names_its_unit() {
        for name in ["hat@repair.target", "phone-worker@0b5c.service", "a_b\\x2dc.service"] {
            assert_eq!(unit_of(&path(name)).as_deref(), Some(name));
        }
        for bad in
            ["/org/freedesktop/systemd1", "/org/freedesktop/systemd1/unit/a_4", "/org/freedesktop/systemd1/unit/a_zz"]
        {
            assert_eq!(unit_of(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_path_names_a_unit_or_none(label in "([a-z]|_[0-9a-f]{0,3}|_.){0,20}") {
            let _ = unit_of(&format!("{PATH}/unit/{label}"));
        }

        #[test]
        fn every_unit_has_a_path_that_names_it(name in "\\PC{1,40}") {
            prop_assert_eq!(unit_of(&path(&name)), Some(name));
        }
    }
}
