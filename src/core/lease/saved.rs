//! The text of what a master keeps over a restart: lines of `<word> <value>`.

use std::time::Duration;

use super::{Saved, Wish, epoch_of};

impl Saved {
    /// As it is written at `now`, the time since 1970: a cooldown stands there as its end, a launch as the time
    /// when it ceases to count.
    pub fn text(&self, now: Duration) -> String {
        let mut text = format!("epoch {}\n", self.epoch);
        for (word, left) in [
            ("cooldown", self.grow_cooldown),
            ("scale_down_cooldown", self.shrink_cooldown),
        ] {
            if !left.is_zero() {
                text += &format!("{word} {}\n", (now + left).as_millis());
            }
        }
        for left in self.launches.iter().filter(|left| !left.is_zero()) {
            text += &format!("launch {}\n", (now + *left).as_millis());
        }
        text + &self.lease_line()
    }

    /// The line of the lease, empty where none is held. Put behind a text that was written before it
    /// was granted, it makes up for what has changed since.
    pub fn lease_line(&self) -> String {
        match &self.held {
            Some((id, node, Wish::Grow)) => format!("lease {id} {node} SCALE\n"),
            Some((id, node, Wish::Shrink)) => format!("lease {id} {node} RETIRE\n"),
            None => String::new(),
        }
    }

    /// Reads it at `now`. What can't be made out counts as not there.
    pub fn parse(text: &str, now: Duration) -> Saved {
        let mut saved = Saved::default();
        let left = |until: &str| Duration::from_millis(until.parse().unwrap_or(0)).saturating_sub(now);
        let lease = |id: &str, node: &str, wish| Some((id.to_string(), node.to_string(), wish));
        for line in text.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["epoch", epoch] => saved.epoch = epoch.parse().unwrap_or(0),
                ["cooldown", until] => saved.grow_cooldown = left(until),
                ["scale_down_cooldown", until] => saved.shrink_cooldown = left(until),
                ["launch", until] => saved.launches.push(left(until)),
                ["lease", id, node, "SCALE"] => saved.held = lease(id, node, Wish::Grow),
                ["lease", id, node, "RETIRE"] => saved.held = lease(id, node, Wish::Shrink),
                _ => {}
            }
        }
        if let Some((id, ..)) = &saved.held {
            saved.epoch = saved.epoch.max(epoch_of(id));
        }
        saved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_less_the_time_that_passed() {
        let second = Duration::from_secs(1);
        let saved = Saved {
            epoch: 7,
            grow_cooldown: 50 * second,
            shrink_cooldown: Duration::ZERO,
            launches: vec![9 * second, 3600 * second],
            held: Some(("7-ab".into(), "app1".into(), Wish::Grow)),
        };
        let text = saved.text(1000 * second);
        assert_eq!(
            text,
            "epoch 7\ncooldown 1050000\nlaunch 1009000\nlaunch 4600000\nlease 7-ab app1 SCALE\n"
        );
        assert_eq!(Saved::parse(&text, 1000 * second), saved);
        let noted = Saved::parse(&(text.clone() + "lease 9-cd app2 RETIRE\n"), 1000 * second);
        assert_eq!(noted.held, Some(("9-cd".into(), "app2".into(), Wish::Shrink)));
        assert_eq!((noted.epoch, noted.grow_cooldown), (9, saved.grow_cooldown));
        let later = Saved::parse(&text, 1020 * second);
        assert_eq!(later.grow_cooldown, 30 * second);
        assert_eq!(later.launches, [Duration::ZERO, 3580 * second]);
        assert!(!later.text(1020 * second).contains("launch 1020"));
        assert_eq!(Saved::parse(&text, 2000 * second).grow_cooldown, Duration::ZERO);
        assert_eq!(Saved::parse("\0garbage\nepoch x\n", second), Saved::default());
    }
}
