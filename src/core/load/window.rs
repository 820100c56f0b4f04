//! The window: the newest samples, whose mean decides.

use std::collections::VecDeque;
use std::time::Duration;

/// Samples are kept in millionths of a percent: then their sum can be kept too, without the
/// errors that fractions would gather in it.
const MILLION: f64 = 1e6;

/// The newest CPU samples, as many as the window has intervals.
#[derive(Debug, Clone)]
pub struct Window {
    samples: VecDeque<u32>,
    sum: u64,
    length: usize,
}

impl Window {
    /// A window of `length`, sampled every `interval`; at least one sample.
    pub fn new(length: Duration, interval: Duration) -> Window {
        let intervals = length.as_millis().div_ceil(interval.as_millis().max(1)).max(1);
        Window {
            samples: VecDeque::new(),
            sum: 0,
            length: usize::try_from(intervals).unwrap_or(usize::MAX),
        }
    }

    /// Takes a sample, 0 to 100; the oldest leaves when the window is full.
    pub fn push(&mut self, percent: f64) {
        if self.samples.len() == self.length {
            self.sum -= self.samples.pop_front().map_or(0, u64::from);
        }
        let sample = (percent * MILLION).round() as u32;
        self.sum += u64::from(sample);
        self.samples.push_back(sample);
    }

    /// The mean of a full window, 0 to 100; `None` until it is full.
    pub fn mean(&self) -> Option<f64> {
        self.mean_so_far().filter(|_| self.samples.len() == self.length)
    }

    /// The mean of what there is; `None` without a sample.
    pub fn mean_so_far(&self) -> Option<f64> {
        (!self.samples.is_empty()).then(|| self.sum as f64 / (self.samples.len() as f64 * MILLION))
    }

    /// Begins a new window.
    pub fn clear(&mut self) {
        self.samples.clear();
        self.sum = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_window_has_a_mean() {
        let mut window = Window::new(Duration::from_secs(3), Duration::from_secs(1));
        window.push(100.0);
        window.push(100.0);
        assert_eq!(window.mean(), None);
        window.push(40.0);
        assert_eq!(window.mean(), Some(80.0));
        window.push(10.0);
        assert_eq!(window.mean(), Some(50.0));
        window.clear();
        assert_eq!(window.mean_so_far(), None);
        window.push(10.0);
        assert_eq!((window.mean(), window.mean_so_far()), (None, Some(10.0)));
    }

    #[test]
    fn a_window_shorter_than_an_interval_is_one_sample() {
        let mut window = Window::new(Duration::from_millis(10), Duration::from_secs(1));
        window.push(7.0);
        assert_eq!(window.mean(), Some(7.0));
    }
}
