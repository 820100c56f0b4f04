//! How many machines are missing: arithmetic over what a master sees, and the limits that it keeps.

use std::fmt;

use crate::core::load::demand::Demand;

/// So many machines per one that serves are launched by what the requests ask for, at most.
const MOST_MORE: usize = 3;
/// What is there, and what is asked of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Picture {
    /// Entries that serve.
    pub serving: usize,
    /// Percent: the mean of the fresh loads; `None` where nobody reports one.
    pub mean: Option<f64>,
    /// Launched, and not serving yet.
    pub booting: usize,
    /// DOWN for less than a minute, which does not make them missing.
    pub restarting: usize,
    /// What the requests ask for, where they are a measure and the machines are saturated.
    pub demand: Option<Demand>,
    /// `[scaling] threshold`, percent, over 0.
    pub threshold: f64,
    pub min_hosts: usize,
}

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// So many machines, one at least, beyond those that boot.
    Missing(usize),
    /// All that is missing boots already.
    Booting,
    /// Those that serve have room for all of it: a single one is hot, and one machine more may help.
    OneHot,
}

/// Which of the estimates counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Estimate {
    Loads,
    Requests,
    MinHosts,
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Estimate::Loads => "loads",
            Estimate::Requests => "requests",
            Estimate::MinHosts => "min_hosts",
        })
    }
}

impl Picture {
    /// The smallest number of machines that brings `load`, in percent of one, under the threshold.
    fn enough_for(&self, load: f64) -> usize {
        let under = |machines: usize| load / (machines as f64) < self.threshold;
        // A division rounds; the last word has the comparison.
        let near = (load / self.threshold).min(1e9) as usize;
        let first = near.saturating_sub(1).max(1);
        (first..first + 4).find(|n| under(*n)).unwrap_or(near + 1)
    }

    /// How many machines are called for in all, and by which estimate.
    pub fn called_for(&self) -> (usize, Estimate) {
        let loads = self
            .mean
            .map_or(0, |mean| self.enough_for(self.serving as f64 * mean));
        let requests = self.demand.map_or(0, |d| self.enough_for(d.rate * d.cost));
        let requests = requests.min(self.serving * (1 + MOST_MORE));
        let (most, estimate) = match requests > loads {
            true => (requests, Estimate::Requests),
            false => (loads, Estimate::Loads),
        };
        match self.min_hosts > most.max(self.serving) {
            true => (self.min_hosts, Estimate::MinHosts),
            false => (most, estimate),
        }
    }

    /// How many are missing; may be none, as nobody need have asked.
    pub fn missing(&self) -> usize {
        self.called_for().0.saturating_sub(self.serving)
    }

    /// What a node that asks is to be given.
    pub fn need(&self) -> Need {
        let missing = self.missing();
        let known = self.mean.is_some() && self.serving > 0;
        match missing.max(1).checked_sub(self.booting + self.restarting) {
            None | Some(0) => Need::Booting,
            Some(_) if missing == 0 && known => Need::OneHot,
            Some(machines) => Need::Missing(machines),
        }
    }
}

/// The numbers that it follows from.
impl fmt::Display for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, estimate) = self.called_for();
        let Picture {
            serving,
            threshold,
            min_hosts,
            ..
        } = self;
        match (estimate, self.mean) {
            (Estimate::MinHosts, _) => write!(f, "{serving} serve, min_hosts {min_hosts}")?,
            (Estimate::Requests, _) => {
                let (rate, cost) = self.demand.map_or((0.0, 0.0), |d| (d.rate, d.cost));
                write!(
                    f,
                    "{serving} serve, threshold {threshold}%: {rate:.0} requests/s at {cost:.2}% each call for {all}"
                )?;
            }
            (Estimate::Loads, Some(mean)) => write!(
                f,
                "{serving} serve at {mean:.0}%, threshold {threshold}%: the loads call for {all}"
            )?,
            (Estimate::Loads, None) => write!(f, "{serving} serve, no load is reported")?,
        }
        match self.booting {
            0 => Ok(()),
            booting => write!(f, ", {booting} boot"),
        }
    }
}

/// What no launch may go beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// At once; 0: any number.
    pub max_step: usize,
    pub max_hosts: usize,
    /// Entries, and what boots beside them.
    pub hosts: usize,
    /// What `max_launches_per_day` leaves; `None`: any number.
    pub left_today: Option<usize>,
}

impl Limits {
    /// How many of the `wanted` machines may be launched; `None`: not one.
    pub fn within(&self, wanted: usize) -> Option<usize> {
        let step = if self.max_step == 0 { wanted } else { self.max_step };
        let room = self.max_hosts.saturating_sub(self.hosts);
        let most = step.min(room).min(self.left_today.unwrap_or(wanted));
        Some(wanted.min(most)).filter(|machines| *machines > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn picture(serving: usize, mean: f64) -> Picture {
        Picture {
            serving,
            mean: Some(mean),
            booting: 0,
            restarting: 0,
            demand: None,
            threshold: 50.0,
            min_hosts: 1,
        }
    }

    #[test]
    fn as_many_as_bring_the_cluster_back_under_the_threshold() {
        for (serving, mean, need) in [
            (1, 50.0, Need::Missing(1)),
            (1, 100.0, Need::Missing(2)),
            (2, 100.0, Need::Missing(3)),
            (2, 75.0, Need::Missing(2)),
            (4, 51.0, Need::Missing(1)),
            (10, 99.0, Need::Missing(10)),
            (10, 49.9, Need::OneHot),
            (3, 0.0, Need::OneHot),
            (0, 90.0, Need::Missing(1)),
        ] {
            assert_eq!(picture(serving, mean).need(), need, "{serving} at {mean}");
        }
    }

    #[test]
    fn what_boots_is_not_asked_for_again() {
        let booting = |booting| Picture {
            booting,
            ..picture(2, 100.0)
        };
        assert_eq!(booting(1).need(), Need::Missing(2));
        assert_eq!(booting(3).need(), Need::Booting);
        assert_eq!(booting(9).need(), Need::Booting);
        let restarting = Picture {
            restarting: 3,
            ..picture(2, 100.0)
        };
        assert_eq!(restarting.need(), Need::Booting);
        let hot = Picture {
            booting: 1,
            ..picture(10, 20.0)
        };
        assert_eq!(hot.need(), Need::Booting);
    }

    #[test]
    fn min_hosts_and_requests_may_call_for_more() {
        let few = Picture {
            min_hosts: 4,
            ..picture(2, 10.0)
        };
        assert_eq!(few.need(), Need::Missing(2));
        assert_eq!(few.called_for(), (4, Estimate::MinHosts));
        let asked = |rate| Picture {
            demand: Some(Demand { rate, cost: 0.5 }),
            ..picture(2, 100.0)
        };
        assert_eq!(asked(640.0).need(), Need::Missing(5));
        assert_eq!(asked(640.0).called_for(), (7, Estimate::Requests));
        assert_eq!(
            asked(640.0).to_string(),
            "2 serve, threshold 50%: 640 requests/s at 0.50% each call for 7"
        );
        assert_eq!(asked(400.0).called_for(), (5, Estimate::Loads));
        assert_eq!(asked(1e9).need(), Need::Missing(6), "three per one that serves");
    }

    #[test]
    fn without_a_load_it_is_one() {
        let silent = |serving| Picture {
            mean: None,
            ..picture(serving, 0.0)
        };
        assert_eq!(silent(3).need(), Need::Missing(1));
        assert_eq!(silent(0).need(), Need::Missing(1));
        assert_eq!(silent(0).to_string(), "0 serve, min_hosts 1");
        assert_eq!(silent(3).to_string(), "3 serve, no load is reported");
    }

    #[test]
    fn limits() {
        let limits = Limits {
            max_step: 0,
            max_hosts: 10,
            hosts: 4,
            left_today: None,
        };
        assert_eq!(limits.within(3), Some(3));
        assert_eq!(limits.within(30), Some(6));
        assert_eq!(
            Limits {
                max_step: 2,
                ..limits
            }
            .within(3),
            Some(2)
        );
        let today = |left| Limits {
            left_today: Some(left),
            ..limits
        };
        assert_eq!((today(1).within(3), today(0).within(3)), (Some(1), None));
        assert_eq!(Limits { hosts: 10, ..limits }.within(1), None);
        assert_eq!(Limits { hosts: 12, ..limits }.within(1), None);
    }

    proptest! {
        #[test]
        fn it_is_the_smallest_number(
            serving in 1usize..2000,
            mean in 0.0f64..=100.0,
            threshold in 1.0f64..=100.0,
            booting in 0usize..50,
        ) {
            let picture = Picture { booting, threshold, ..picture(serving, mean) };
            let all = picture.called_for().0.max(serving);
            let load = serving as f64 * mean;
            prop_assert!(load / (all as f64) < threshold || mean >= threshold && all > serving);
            if all > serving {
                prop_assert!(load / all as f64 <= threshold);
                prop_assert!(load / (all - 1) as f64 >= threshold);
            }
            match picture.need() {
                Need::Missing(machines) => prop_assert_eq!(machines + booting, (all - serving).max(1)),
                Need::Booting => prop_assert!(booting >= (all - serving).max(1)),
                Need::OneHot => prop_assert!(mean < threshold && booting == 0),
            }
        }

        #[test]
        fn limits_hold(wanted in 1usize..500, step in 0usize..9, most in 0usize..50, hosts in 0usize..60, left in 0usize..20) {
            let limits = Limits { max_step: step, max_hosts: most, hosts, left_today: Some(left) };
            match limits.within(wanted) {
                Some(n) => prop_assert!(n >= 1 && n <= wanted && hosts + n <= most && n <= left && (step == 0 || n <= step)),
                None => prop_assert!(hosts >= most || left == 0),
            }
        }
    }
}
