//! Times of one thing, repeated.

use std::time::{Duration, Instant};

/// Times of one thing, sorted.
pub(crate) struct Sample(Vec<Duration>);

impl Sample {
    /// Times `work` once to warm up and then `times` times.
    pub(crate) fn of<E>(times: usize, mut work: impl FnMut() -> Result<(), E>) -> Result<Self, E> {
        work()?;
        let timed = (0..times).map(|_| {
            let start = Instant::now();
            work().map(|()| start.elapsed())
        });
        Ok(Self::from_times(timed.collect::<Result<_, E>>()?))
    }

    /// A sample of times taken elsewhere.
    pub(crate) fn from_times(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The time in milliseconds that this share (0 to 1) of the sample did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index"
        )]
        let index = ((self.0.len() as f64 * share).ceil() as usize).clamp(1, self.0.len()) - 1;
        self.0[index].as_secs_f64() * 1000.0
    }

    /// The median in milliseconds.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}
