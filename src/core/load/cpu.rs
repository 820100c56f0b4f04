//! CPU use out of two readings of `/proc/stat` (`proc(5)`).

/// The counters of one reading, in ticks since boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    /// user, nice, system, idle, iowait, irq, softirq, steal. `guest` and `guest_nice` are
    /// left out: the kernel has counted them in `user` and `nice` already.
    ticks: [u64; 8],
    /// The CPUs that are online, by number. When one is plugged in or taken out, its ticks come
    /// or go at once, and the difference of two readings says nothing.
    online: Vec<u32>,
}

const IDLE: usize = 3;
const IOWAIT: usize = 4;

impl Counters {
    /// Reads the `cpu` lines of `/proc/stat`.
    ///
    /// # Errors
    /// A text naming what is missing. Kernels before 2.6.11 had fewer than eight numbers;
    /// those that are absent count as 0.
    pub fn parse(stat: &str) -> Result<Counters, String> {
        let mut ticks = None;
        let mut online = Vec::new();
        for line in stat.lines() {
            let Some(rest) = line.strip_prefix("cpu") else {
                if ticks.is_some() {
                    break;
                }
                continue;
            };
            if let Some(numbers) = rest.strip_prefix(' ') {
                ticks = Some(parse_ticks(numbers)?);
            } else if let Some(cpu) = rest.split(' ').next().and_then(|n| n.parse().ok()) {
                online.push(cpu);
            }
        }
        let ticks = ticks.ok_or("has no line `cpu …`")?;
        Ok(Counters { ticks, online })
    }

    /// The share of time that was not idle between `earlier` and this reading, 0 to 100.
    ///
    /// `None` where the two readings can't be compared: no tick has passed, a counter went
    /// backwards (a known fault of `idle` and `iowait`, and of every counter when a virtual
    /// machine is restored), or the set of CPUs changed.
    pub fn busy_since(&self, earlier: &Counters) -> Option<f64> {
        if self.online != earlier.online {
            return None;
        }
        let mut passed = [0u64; 8];
        for (i, slot) in passed.iter_mut().enumerate() {
            *slot = self.ticks[i].checked_sub(earlier.ticks[i])?;
        }
        let total: u128 = passed.iter().map(|t| u128::from(*t)).sum();
        let idle = u128::from(passed[IDLE]) + u128::from(passed[IOWAIT]);
        // Rounding may go a hair over.
        (total > 0).then(|| (100.0 * (total - idle) as f64 / total as f64).min(100.0))
    }
}

fn parse_ticks(numbers: &str) -> Result<[u64; 8], String> {
    let mut ticks = [0; 8];
    let mut words = numbers.split_ascii_whitespace();
    for (i, slot) in ticks.iter_mut().enumerate() {
        match words.next() {
            Some(word) => {
                *slot = word
                    .parse()
                    .map_err(|_| format!("has `{word}` where a count of ticks belongs"))?;
            }
            None if i > IDLE => {}
            None => return Err("has a `cpu` line with fewer than four numbers".into()),
        }
    }
    Ok(ticks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reading(text: &str) -> Counters {
        Counters::parse(text).unwrap()
    }

    fn busy(earlier: &str, later: &str) -> Option<f64> {
        reading(later).busy_since(&reading(earlier))
    }

    #[test]
    fn busy_is_all_but_idle_and_iowait() {
        let before = "cpu  100 0 100 1000 50 0 0 0 0 0\ncpu0 100 0 100 1000 50 0 0 0 0 0\nintr 1\n";
        let after = "cpu  120 5 110 1030 70 1 4 10 0 0\ncpu0 120 5 110 1030 70 1 4 10 0 0\nintr 1\n";
        // 20 user, 5 nice, 10 system, 1 irq, 4 softirq and 10 stolen of 100.
        assert_eq!(busy(before, after), Some(50.0));
    }

    #[test]
    fn guest_time_counts_once() {
        let before = "cpu  0 0 0 0 0 0 0 0 0 0\n";
        let after = "cpu  50 0 0 50 0 0 0 0 50 0\n";
        assert_eq!(busy(before, after), Some(50.0));
    }

    #[test]
    fn readings_that_cannot_be_compared_give_nothing() {
        let one = "cpu  10 0 0 90 5 0 0 0\ncpu0 10 0 0 90 5 0 0 0\n";
        assert_eq!(busy(one, one), None, "no tick has passed");
        let iowait_back = "cpu  20 0 0 180 4 0 0 0\ncpu0 20 0 0 180 4 0 0 0\n";
        assert_eq!(busy(one, iowait_back), None, "iowait went backwards");
        let plugged = "cpu  20 0 0 180 5 0 0 0\ncpu0 20 0 0 90 5 0 0 0\ncpu1 0 0 0 90 0 0 0 0\n";
        assert_eq!(busy(one, plugged), None, "a CPU was plugged in");
        let swapped = "cpu  20 0 0 180 5 0 0 0\ncpu1 20 0 0 180 5 0 0 0\n";
        assert_eq!(busy(one, swapped), None, "another CPU in its place");
    }

    #[test]
    fn old_kernels_have_fewer_numbers() {
        assert_eq!(busy("cpu  0 0 0 0\n", "cpu  1 0 0 3\n"), Some(25.0));
    }

    #[test]
    fn what_is_not_proc_stat_is_refused() {
        for text in ["", "intr 5\n", "cpu  1 2\n", "cpu  a b c d\n", "cpu\n"] {
            assert!(Counters::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn never_outside_0_to_100_and_never_a_panic(a in "[cpu0-9 \n]{0,200}", b in "[cpu0-9 \n]{0,200}") {
            if let (Ok(a), Ok(b)) = (Counters::parse(&a), Counters::parse(&b))
                && let Some(busy) = b.busy_since(&a)
            {
                prop_assert!((0.0..=100.0).contains(&busy));
            }
        }
    }
}
