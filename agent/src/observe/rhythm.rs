//! How soon after an event to look.

use std::time::{Duration, Instant};

/// The window can grow to this many times its least length.
const MOST: u32 = 16;

/// The first event is served at once. One that comes within a window after the last look waits for the window's end, and the
/// window doubles: a device that comes and goes without end costs a few looks a second and not all of them.
#[derive(Debug)]
pub struct Rhythm {
    least: Duration,
    window: Duration,
    last: Option<Instant>,
}

impl Rhythm {
    pub fn new(least: Duration) -> Self {
        Self { least, window: least, last: None }
    }

    /// A look has ended.
    pub fn looked(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// How long to wait before the look that an event asks for.
    pub fn wait(&mut self, now: Instant) -> Duration {
        let passed = self.last.map_or(Duration::MAX, |last| now.saturating_duration_since(last));
        let wait = self.window.saturating_sub(passed);
        self.window = if wait.is_zero() { self.least } else { (self.window * 2).min(self.least * MOST) };
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_does_not_wait_and_a_storm_is_slowed() {
        let ms = Duration::from_millis;
        let mut rhythm = Rhythm::new(ms(20));
        let mut now = Instant::now();
        assert_eq!(rhythm.wait(now), Duration::ZERO);
        let mut waits = Vec::new();
        for _ in 0..7 {
            rhythm.looked(now);
            let wait = rhythm.wait(now + ms(5));
            waits.push(wait.as_millis());
            now += ms(5) + wait;
        }
        assert_eq!(waits, [15, 35, 75, 155, 315, 315, 315]);
        rhythm.looked(now);
        assert_eq!(rhythm.wait(now + ms(400)), Duration::ZERO, "after quiet");
        rhythm.looked(now + ms(400));
        assert_eq!(rhythm.wait(now + ms(405)), ms(15), "the window is short again");
    }
}
