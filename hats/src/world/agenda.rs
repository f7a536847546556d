//! What a decision has to look at: what changed since it was last looked at, and what time has made due.
//!
//! A [`World`](super::World) opens what each change could matter to. A decision works on a copy of the world, closes what it looks at, and
//! says when time alone will make each thing due. When its whole plan was carried out, [`World::conclude`](super::World::conclude) takes
//! over what it learnt; until then all stays open, so that nothing is lost with a plan that broke off. What is not open would say
//! nothing if it were asked: the simulator holds each decision against that of a world in which everything is open.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use imbl::{OrdMap, OrdSet};
use jiff::Timestamp;

use super::{Id, Name};
use crate::moment::Moment;

/// Where a binding stands in the order in which requests are considered.
pub(crate) type Turn = (Timestamp, Id);

/// When something was opened, as a count of openings.
type Stamp = u64;

/// What is asked of a binding that has not ended, one step after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Is a record ahead of its status?
    Finish,
    /// It is going: is that its end?
    Leave,
    /// It stays: is a transition due without a new admission?
    Settle,
    /// Is it admitted, or what holds it?
    Consider,
}

/// What is asked of a node or a hat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Question {
    /// Is a node to be fenced?
    Fence,
    /// What is a node to wear?
    Assignment,
    /// What is the status of a hat?
    Ledger,
}

/// What is asked of a binding whatever became of it, also of one that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trace {
    /// What authority does it have too much?
    Excess,
    /// What authority does it have too little?
    Authority,
    /// It has ended: is it to go?
    End,
}

/// Something that can become due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Matter {
    Step(Turn, Step),
    Trace(Id, Trace),
    Question(Name, Question),
}

/// When something is due, on either clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Due {
    wall: Option<Timestamp>,
    steady: Option<Duration>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Dues {
    of: OrdMap<Matter, Due>,
    by_wall: OrdSet<(Timestamp, Matter)>,
    by_steady: OrdSet<(Duration, Matter)>,
}

/// When each step of a binding was last opened.
#[derive(Clone, Copy, Debug, Default)]
struct Opened([Stamp; 4]);

/// A step that is being taken of one binding after the other.
#[derive(Clone, Debug)]
struct Sweep {
    step: Step,
    /// What was opened after this is being looked at.
    since: Stamp,
    /// Whose turn it is.
    at: Option<Turn>,
    /// What was opened ahead of it.
    late: OrdSet<Turn>,
    /// Whose turn it was when something last happened to a node.
    happened: Option<Turn>,
}

/// The requests that no node could take are opened together, by anything that happens to a node: there may be many of them, and they are
/// asked in their turn only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Unplaced {
    #[default]
    Closed,
    /// Those up to this turn.
    UpTo(Turn),
    All,
}

/// What is open, and what becomes due.
#[derive(Clone, Debug, Default)]
pub(crate) struct Agenda {
    /// The same for all copies of a world, and no other's.
    origin: Arc<()>,
    everything: Option<Stamp>,
    bindings: OrdMap<Turn, Opened>,
    /// When each step was last begun: what was opened before is open no more.
    begun: [Stamp; 4],
    sweep: Option<Sweep>,
    /// What is being asked.
    asked: Option<Matter>,
    traces: [OrdMap<Id, Stamp>; 3],
    questions: [OrdMap<Name, Stamp>; 3],
    unplaced: Unplaced,
    unplaced_since: Stamp,
    dues: Dues,
    /// When the last decision was made whose plan was carried out.
    concluded: Option<Moment>,
    stamp: Stamp,
}

/// What a decision learnt, for [`World::conclude`](super::World::conclude): what it looked at, and when time alone will make something due.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outlook {
    origin: Arc<()>,
    /// What was opened up to here was looked at.
    stamp: Stamp,
    dues: Dues,
    at: Option<Moment>,
}

impl Agenda {
    /// Everything is to be looked at.
    pub fn open_everything(&mut self) {
        self.stamp += 1;
        self.everything = Some(self.stamp);
    }

    /// Steps of a binding are to be taken.
    pub fn open(&mut self, turn: Turn, steps: &[Step]) {
        self.stamp += 1;
        if let Some(sweep) =
            self.sweep.as_mut().filter(|sweep| steps.contains(&sweep.step) && sweep.at.as_ref() < Some(&turn))
        {
            let is_expected = self.bindings.get(&turn).is_some_and(|known| known.0[sweep.step as usize] > sweep.since);
            if !is_expected {
                sweep.late.insert(turn.clone());
            }
        }
        let opened = |mut opened: Opened| {
            for step in steps {
                opened.0[*step as usize] = self.stamp;
            }
            opened
        };
        match self.bindings.get_mut(&turn) {
            Some(known) => *known = opened(*known),
            None => _ = self.bindings.insert(turn, opened(Opened::default())),
        }
    }

    /// A node or a hat is to be looked at.
    pub fn ask(&mut self, question: Question, name: &str) {
        self.stamp += 1;
        let open = &mut self.questions[question as usize];
        match open.get_mut(name) {
            Some(known) => *known = self.stamp,
            None => _ = open.insert(name.into(), self.stamp),
        }
    }

    /// What is left of a binding is to be looked at.
    pub fn trace(&mut self, trace: Trace, id: &Id) {
        self.stamp += 1;
        self.traces[trace as usize].insert(id.clone(), self.stamp);
    }

    /// Something happened to a node: it may be what a request waited for.
    pub fn open_unplaced(&mut self) {
        self.stamp += 1;
        self.unplaced = Unplaced::All;
        self.unplaced_since = self.stamp;
        if let Some(sweep) = &mut self.sweep {
            sweep.happened.clone_from(&sweep.at);
        }
    }

    /// Whether everything is to be looked at: because it was said, or because a clock was set back and what was not yet due may be so again.
    pub fn take_everything(&mut self, now: Moment) -> bool {
        let was_set_back = self.concluded.is_none_or(|last| now.wall < last.wall || now.steady < last.steady);
        self.everything.take().is_some() || was_set_back
    }

    /// When the last decision was made whose plan was carried out.
    pub fn concluded(&self) -> Option<Moment> {
        self.concluded
    }

    /// Opens what is due. A binding is asked everything anew: what time has changed may matter to any step.
    pub fn open_due(&mut self, now: Moment) {
        while let Some(matter) = self.dues.first_until(now) {
            self.dues.clear(&matter);
            match matter {
                Matter::Step(turn, _) => self.open(turn, &Step::ALL),
                Matter::Trace(id, trace) => self.trace(trace, &id),
                Matter::Question(name, question) => self.ask(question, &name),
            }
        }
    }

    /// Begins to take a step of every binding of which it is open: their turns, in order. What is opened from now on is open for the next
    /// time, and comes in its turn ([`Agenda::late`]) if that is still ahead.
    pub fn begin(&mut self, step: Step) -> Vec<Turn> {
        let since = std::mem::replace(&mut self.begun[step as usize], self.stamp);
        let opened = self.bindings.iter().filter(|(_, opened)| opened.0[step as usize] > since);
        let turns = opened.map(|(turn, _)| turn.clone()).collect();
        self.sweep = Some(Sweep { step, since, at: None, late: OrdSet::new(), happened: None });
        turns
    }

    /// The first turn after the present one that was opened since the step was begun, or that is open together with others. `unplaced`
    /// are the requests that no node could take.
    pub fn late<'a>(&'a self, unplaced: &'a OrdSet<Turn>) -> Option<&'a Turn> {
        let sweep = self.sweep.as_ref()?;
        let ahead = (sweep.at.as_ref().map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let late = if sweep.late.is_empty() { None } else { sweep.late.range::<_, Turn>(ahead).next() };
        if sweep.step != Step::Consider || self.unplaced == Unplaced::Closed {
            return late;
        }
        let together = unplaced.range::<_, Turn>(ahead).next().filter(|turn| self.unplaced.has(turn));
        late.into_iter().chain(together).min()
    }

    /// It is this one's turn: nothing of its step is due any more.
    pub fn go_to(&mut self, turn: &Turn) {
        if let Some(sweep) = &mut self.sweep {
            self.dues.clear(&Matter::Step(turn.clone(), sweep.step));
            sweep.at = Some(turn.clone());
        }
    }

    /// Everybody had a turn. Of those who wait for a node, those who were asked before something happened to one are asked again.
    pub fn end(&mut self) {
        if let Some(sweep) = self.sweep.take().filter(|sweep| sweep.step == Step::Consider) {
            self.unplaced = sweep.happened.map_or(Unplaced::Closed, Unplaced::UpTo);
        }
    }

    /// The nodes or hats that are asked about, in order. They are asked about no more.
    pub fn take_asked(&mut self, question: Question) -> impl Iterator<Item = Name> + use<> {
        std::mem::take(&mut self.questions[question as usize]).into_iter().map(|(name, _)| name)
    }

    /// The bindings that are asked about, in order. They are asked about no more.
    pub fn take_traces(&mut self, trace: Trace) -> impl Iterator<Item = Id> + use<> {
        std::mem::take(&mut self.traces[trace as usize]).into_iter().map(|(id, _)| id)
    }

    /// A question is answered: nothing of it is due any more.
    pub fn look_at(&mut self, matter: Matter) {
        self.dues.clear(&matter);
        self.asked = Some(matter);
    }

    /// What is looked at now will be due again at a time of the wall clock.
    pub fn due_at(&mut self, wall: Timestamp) {
        self.due(Due { wall: Some(wall), steady: None });
    }

    /// What is looked at now will be due again at a time of the steady clock.
    pub fn due_after(&mut self, steady: Duration) {
        self.due(Due { wall: None, steady: Some(steady) });
    }

    fn due(&mut self, due: Due) {
        let turn = self.sweep.as_ref().and_then(|sweep| Some(Matter::Step(sweep.at.clone()?, sweep.step)));
        if let Some(matter) = turn.or_else(|| self.asked.clone()) {
            self.dues.set(matter, due);
        }
    }

    /// When the first thing is due, from a moment on.
    pub fn wait(&self, now: Moment) -> Option<Duration> {
        let wall = self.dues.by_wall.get_min().map(|(wall, _)| now.until(*wall));
        let steady = self.dues.by_steady.get_min().map(|(steady, _)| steady.saturating_sub(now.steady));
        wall.into_iter().chain(steady).min()
    }

    /// What a decision on this world may conclude at its end, with what it learnt.
    pub fn outlook(&self, learnt: Self, at: Moment) -> Outlook {
        Outlook { origin: Arc::clone(&self.origin), stamp: self.stamp, dues: learnt.dues, at: Some(at) }
    }

    /// What a decision looked at is closed, unless it was opened again since. What was learnt of another world says nothing of this one.
    pub fn conclude(&mut self, outlook: Outlook) {
        if !Arc::ptr_eq(&self.origin, &outlook.origin) {
            return;
        }
        let since = |stamp: Stamp| stamp > outlook.stamp;
        self.everything = self.everything.filter(|stamp| since(*stamp));
        let bindings = self.bindings.iter().filter(|(_, opened)| opened.0.iter().any(|stamp| since(*stamp)));
        self.bindings = bindings.map(|(turn, opened)| (turn.clone(), *opened)).collect();
        for open in &mut self.questions {
            *open =
                open.iter().filter(|(_, stamp)| since(**stamp)).map(|(name, stamp)| (name.clone(), *stamp)).collect();
        }
        for open in &mut self.traces {
            *open = open.iter().filter(|(_, stamp)| since(**stamp)).map(|(id, stamp)| (id.clone(), *stamp)).collect();
        }
        if !since(self.unplaced_since) {
            self.unplaced = Unplaced::Closed;
        }
        self.dues = outlook.dues;
        self.concluded = outlook.at;
    }
}

impl Unplaced {
    fn has(&self, turn: &Turn) -> bool {
        match self {
            Self::Closed => false,
            Self::UpTo(last) => turn <= last,
            Self::All => true,
        }
    }
}

impl Step {
    pub const ALL: [Self; 4] = [Self::Finish, Self::Leave, Self::Settle, Self::Consider];
}

impl Dues {
    /// Of several times the first counts.
    fn set(&mut self, matter: Matter, due: Due) {
        let known = self.clear(&matter);
        let first = |one: Option<Timestamp>, other: Option<Timestamp>| one.into_iter().chain(other).min();
        let wall = first(known.wall, due.wall);
        let steady = known.steady.into_iter().chain(due.steady).min();
        wall.map(|wall| self.by_wall.insert((wall, matter.clone())));
        steady.map(|steady| self.by_steady.insert((steady, matter.clone())));
        self.of.insert(matter, Due { wall, steady });
    }

    fn clear(&mut self, matter: &Matter) -> Due {
        // Most are not due, and to look is cheaper than to remove.
        let Some(known) = self.of.get(matter).copied() else { return Due::default() };
        self.of.remove(matter);
        known.wall.map(|wall| self.by_wall.remove(&(wall, matter.clone())));
        known.steady.map(|steady| self.by_steady.remove(&(steady, matter.clone())));
        known
    }

    fn first_until(&self, now: Moment) -> Option<Matter> {
        let wall = self.by_wall.get_min().filter(|(wall, _)| *wall <= now.wall).map(|(_, matter)| matter);
        let steady = self.by_steady.get_min().filter(|(steady, _)| *steady <= now.steady).map(|(_, matter)| matter);
        wall.or(steady).cloned()
    }
}
