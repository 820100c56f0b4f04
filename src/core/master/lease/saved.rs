//! The text of what a master keeps over a restart: lines of `<word> <value>`.

use std::time::Duration;

use super::{LONGEST, Share, Wish, epoch_of};

/// What must survive a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Saved {
    pub epoch: u64,
    /// What is left of each cooldown.
    pub grow_cooldown: Duration,
    pub leave_cooldown: Duration,
    pub hot_cooldown: Duration,
    /// For how long each launch still counts, the oldest first.
    pub launches: Vec<Duration>,
    /// For how long each machine that boots still counts, and its lease's epoch; the oldest first.
    pub booting: Vec<(Duration, u64)>,
    /// The back-off after launches and departures that failed, by [`Wish`]: what is left of it, and how
    /// many there were in a row.
    pub failing: [(Duration, u32); 2],
    pub held: Option<Held>,
}

/// The lease that was held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub id: String,
    pub node: String,
    pub wish: Wish,
    pub share: Share,
    /// For how long it may be renewed.
    pub left: Duration,
}

impl Saved {
    /// As it is written at `now`, the time since 1970: a cooldown stands there as its end, a launch as the time
    /// when it ceases to count.
    pub fn text(&self, now: Duration) -> String {
        let mut text = format!("epoch {}\n", self.epoch);
        for (word, left) in [
            ("cooldown", self.grow_cooldown),
            ("scale_down_cooldown", self.leave_cooldown),
            ("hot_cooldown", self.hot_cooldown),
        ] {
            if !left.is_zero() {
                text += &format!("{word} {}\n", (now + left).as_millis());
            }
        }
        for left in self.launches.iter().filter(|left| !left.is_zero()) {
            text += &format!("launch {}\n", (now + *left).as_millis());
        }
        for (left, epoch) in self.booting.iter().filter(|(left, _)| !left.is_zero()) {
            text += &format!("booting {} {epoch}\n", (now + *left).as_millis());
        }
        for (wish, (left, in_a_row)) in Wish::ALL.iter().zip(self.failing) {
            let verb = wish.verb();
            if in_a_row > 0 {
                text += &format!("failing {verb} {} {in_a_row}\n", (now + left).as_millis());
            }
        }
        text + &self.lease_line(now)
    }

    /// The line of the lease, empty where none is held. Put behind a text that was written before it
    /// was granted, it makes up for what has changed since.
    pub fn lease_line(&self, now: Duration) -> String {
        let Some(held) = &self.held else {
            return String::new();
        };
        let verb = held.wish.verb();
        let until = (now + held.left).as_millis();
        let Share { machines, hot } = held.share;
        let hot = if hot { " hot" } else { "" };
        format!("lease {} {} {verb} {until} {machines}{hot}\n", held.id, held.node)
    }

    /// Reads it at `now`. What can't be made out counts as not there.
    pub fn parse(text: &str, now: Duration) -> Saved {
        let mut saved = Saved::default();
        let left = |until: &str| Duration::from_millis(until.parse().unwrap_or(0)).saturating_sub(now);
        for line in text.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["epoch", epoch] => saved.epoch = epoch.parse().unwrap_or(0),
                ["cooldown", until] => saved.grow_cooldown = left(until),
                ["scale_down_cooldown", until] => saved.leave_cooldown = left(until),
                ["hot_cooldown", until] => saved.hot_cooldown = left(until),
                ["launch", until] => saved.launches.push(left(until)),
                ["booting", until, epoch] => {
                    saved.booting.push((left(until), epoch.parse().unwrap_or(0)));
                }
                ["failing", verb, until, in_a_row] => {
                    if let Some(wish) = Wish::of_verb(verb) {
                        saved.failing[wish as usize] = (left(until), in_a_row.parse().unwrap_or(0));
                    }
                }
                // As 0.1.0 wrote it there is nothing more: it was for one machine.
                ["lease", id, node, verb, ref more @ ..] => {
                    saved.held = Wish::of_verb(verb).map(|wish| Held {
                        id: id.into(),
                        node: node.into(),
                        wish,
                        share: Share {
                            machines: match (more.get(1), wish) {
                                (Some(machines), _) => machines.parse().unwrap_or(0),
                                (None, Wish::Grow) => 1,
                                (None, Wish::Leave) => 0,
                            },
                            hot: more.get(2) == Some(&"hot"),
                        },
                        left: more.first().map_or(LONGEST, |until| left(until)),
                    });
                }
                _ => {}
            }
        }
        if let Some(held) = &saved.held {
            saved.epoch = saved.epoch.max(epoch_of(&held.id));
        }
        saved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn held(id: &str, wish: Wish, machines: usize, left: u32) -> Option<Held> {
        Some(Held {
            id: id.into(),
            node: "app1/i-1".into(),
            wish,
            share: Share {
                machines,
                hot: machines == 1,
            },
            left: left * SECOND,
        })
    }

    #[test]
    fn what_is_saved_is_loaded_less_the_time_that_passed() {
        let saved = Saved {
            epoch: 7,
            grow_cooldown: 50 * SECOND,
            leave_cooldown: Duration::ZERO,
            hot_cooldown: 60 * SECOND,
            launches: vec![9 * SECOND, 3600 * SECOND],
            booting: vec![(40 * SECOND, 6), (70 * SECOND, 7)],
            failing: [(30 * SECOND, 1), (Duration::ZERO, 4)],
            held: held("7-ab", Wish::Grow, 3, 100),
        };
        let text = saved.text(1000 * SECOND);
        assert_eq!(
            text,
            "epoch 7\ncooldown 1050000\nhot_cooldown 1060000\nlaunch 1009000\nlaunch 4600000\n\
             booting 1040000 6\nbooting 1070000 7\nfailing SCALE 1030000 1\nfailing RETIRE 1000000 4\n\
             lease 7-ab app1/i-1 SCALE 1100000 3\n"
        );
        assert_eq!(Saved::parse(&text, 1000 * SECOND), saved);
        let noted = Saved {
            held: held("9-cd", Wish::Grow, 1, 50),
            ..saved.clone()
        };
        let noted = Saved::parse(&(text.clone() + &noted.lease_line(1000 * SECOND)), 1000 * SECOND);
        assert_eq!(noted.held, held("9-cd", Wish::Grow, 1, 50));
        assert_eq!((noted.epoch, noted.grow_cooldown), (9, saved.grow_cooldown));
        let later = Saved::parse(&text, 1020 * SECOND);
        assert_eq!(later.grow_cooldown, 30 * SECOND);
        assert_eq!(later.launches, [Duration::ZERO, 3580 * SECOND]);
        assert_eq!(later.booting, [(20 * SECOND, 6), (50 * SECOND, 7)]);
        assert!(!later.text(1020 * SECOND).contains("launch 1020"));
        assert_eq!(Saved::parse(&text, 2000 * SECOND).grow_cooldown, Duration::ZERO);
        assert_eq!(Saved::parse("\0garbage\nepoch x\n", SECOND), Saved::default());
    }

    #[test]
    fn a_file_of_0_1_0_is_read() {
        let text = "epoch 7\ncooldown 1050000\nlaunch 1009000\nlease 7-ab app1 RETIRE\n\
                    decision 990000 app1 SCALE - 1 ok 3 in\n";
        let saved = Saved::parse(text, 1000 * SECOND);
        assert_eq!((saved.epoch, saved.grow_cooldown), (7, 50 * SECOND));
        let lease = saved.held.unwrap();
        assert_eq!(
            (lease.wish, lease.share, lease.left),
            (Wish::Leave, Share::NONE, LONGEST)
        );
        let grow = Saved::parse("lease 7-ab app1 SCALE\n", SECOND).held.unwrap();
        assert_eq!((grow.wish, grow.share.machines), (Wish::Grow, 1));
    }
}
