//! What a service says.

use std::error::Error;
use std::fmt::Write;
use std::io;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::time;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people, or for the journal, which adds time and priority itself.
    Text,
    /// One JSON object per line.
    Json,
}

/// Begins to log to standard error.
pub fn begin(format: Format, filter: Targets) {
    let builder =
        tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(io::stderr).with_target(false);
    match format {
        Format::Json => builder.json().flatten_event(true).finish().with(filter).init(),
        Format::Text if std::env::var_os("JOURNAL_STREAM").is_some() => {
            builder.without_time().with_ansi(false).finish().with(filter).init();
        }
        Format::Text => {
            let colour = io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none();
            builder.with_timer(time::uptime()).with_ansi(colour).finish().with(filter).init();
        }
    }
}

/// An error and its sources in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let sentence = source.to_string();
        if !text.ends_with(&sentence) {
            _ = write!(text, ": {sentence}");
        }
        next = source.source();
    }
    text
}

/// First silence after a failure has been logged; the following ones are longer.
const SILENCE: Duration = Duration::from_mins(1);

const LONGEST_SILENCE: Duration = Duration::from_hours(1);

/// How many ways of failing one trouble says: more are no news.
const MAX_SAID: usize = 8;

/// A failure that goes on is logged when it begins, then at growing intervals with its count, and when it has ended. Each way in which it fails
/// is said once: an API server that goes down breaks connections first and refuses them then, and several tasks meet both in turn.
#[derive(Debug, Default)]
pub struct Trouble {
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    said: Vec<String>,
    began: Instant,
    count: u64,
    silence: Duration,
    quiet_until: Instant,
}

/// What is worth a log line.
#[derive(Debug, PartialEq, Eq)]
enum Worth {
    /// It is new.
    New,
    /// It goes on: how often so far.
    GoesOn(u64),
    /// It has been said.
    Nothing,
}

impl Trouble {
    /// It failed: logs that, if it is worth a line. `what` is a sentence on what did not work.
    pub fn log(&mut self, what: &str, error: &dyn Error, hint: Option<&str>) {
        let error = chain(error);
        match self.met(&error) {
            Worth::New => tracing::warn!(error, hint, "{what}"),
            Worth::GoesOn(count) => tracing::warn!(error, hint, count, "{what}, still"),
            Worth::Nothing => {}
        }
    }

    /// It works: logs that, if it had not.
    pub fn log_end(&mut self, what: &str) {
        if let Some((length, failures)) = self.over() {
            tracing::info!(failures, after = ?length, "{what}");
        }
    }

    /// It failed, with these words. Says whether that is worth a line.
    fn met(&mut self, what: &str) -> Worth {
        self.met_at(what, Instant::now())
    }

    fn met_at(&mut self, what: &str, now: Instant) -> Worth {
        let Some(current) = &mut self.current else {
            let said = vec![what.to_owned()];
            self.current = Some(Current { said, began: now, count: 1, silence: SILENCE, quiet_until: now + SILENCE });
            return Worth::New;
        };
        current.count += 1;
        if current.said.len() < MAX_SAID && current.said.iter().all(|said| said != what) {
            current.said.push(what.to_owned());
            return Worth::New;
        }
        if now < current.quiet_until {
            return Worth::Nothing;
        }
        current.silence = (current.silence * 2).min(LONGEST_SILENCE);
        current.quiet_until = now + current.silence;
        Worth::GoesOn(current.count)
    }

    /// It works. Returns how long it had not, and how often it had failed, when there is something to say.
    fn over(&mut self) -> Option<(Duration, u64)> {
        self.current.take().map(|current| (current.began.elapsed(), current.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_failure_is_said_at_growing_intervals() {
        let mut trouble = Trouble::default();
        let start = Instant::now();
        let mut said = Vec::new();
        for second in 0..600 {
            match trouble.met_at("refused", start + Duration::from_secs(second)) {
                Worth::Nothing => {}
                worth => said.push((second, worth)),
            }
        }
        assert_eq!(
            said,
            [(0, Worth::New), (60, Worth::GoesOn(61)), (180, Worth::GoesOn(181)), (420, Worth::GoesOn(421))]
        );
        assert_eq!(trouble.over().map(|(_, count)| count), Some(600));
        assert!(trouble.over().is_none());
        assert_eq!(trouble.met("refused"), Worth::New);
    }

    #[test]
    fn each_way_of_failing_is_said_once() {
        let mut trouble = Trouble::default();
        let worth: Vec<_> = ["broken", "refused", "broken", "refused"].map(|what| trouble.met(what)).into();
        assert_eq!(worth, [Worth::New, Worth::New, Worth::Nothing, Worth::Nothing]);
        let new = (0..100).filter(|number| trouble.met(&format!("request {number} refused")) == Worth::New).count();
        assert_eq!(new, MAX_SAID - 2, "words that are never the same are no news for ever");
        assert_eq!(trouble.over().map(|(_, count)| count), Some(104));
    }

    #[test]
    fn a_chain_does_not_repeat_itself() {
        #[derive(Debug, thiserror::Error)]
        #[error("{text}")]
        struct Link {
            text: &'static str,
            #[source]
            source: Option<Box<Link>>,
        }
        let link = |text, source: Option<Link>| Link { text, source: source.map(Box::new) };
        let error = link("a failed", Some(link("b: c", Some(link("c", None)))));
        assert_eq!(chain(&error), "a failed: b: c");
    }
}
