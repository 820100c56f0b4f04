//! The text of what a master keeps over a restart: lines of `<word> <value>`.

use std::time::Duration;

use super::{Saved, Wish};

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
        if let Some((id, node, wish)) = &self.held {
            let wish = match wish {
                Wish::Grow => "SCALE",
                Wish::Shrink => "RETIRE",
            };
            text += &format!("lease {id} {node} {wish}\n");
        }
        text
    }

    /// Reads it at `now`. What can't be made out counts as not there.
    pub fn parse(text: &str, now: Duration) -> Saved {
        let mut saved = Saved::default();
        let left = |until: &str| Duration::from_millis(until.parse().unwrap_or(0)).saturating_sub(now);
        for line in text.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["epoch", epoch] => saved.epoch = epoch.parse().unwrap_or(0),
                ["cooldown", until] => saved.grow_cooldown = left(until),
                ["scale_down_cooldown", until] => saved.shrink_cooldown = left(until),
                ["launch", until] => saved.launches.push(left(until)),
                ["lease", id, node, "SCALE"] => saved.held = Some((id.into(), node.into(), Wish::Grow)),
                ["lease", id, node, "RETIRE"] => saved.held = Some((id.into(), node.into(), Wish::Shrink)),
                _ => {}
            }
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
        let later = Saved::parse(&text, 1020 * second);
        assert_eq!(later.grow_cooldown, 30 * second);
        assert_eq!(later.launches, [Duration::ZERO, 3580 * second]);
        assert!(!later.text(1020 * second).contains("launch 1020"));
        assert_eq!(Saved::parse(&text, 2000 * second).grow_cooldown, Duration::ZERO);
        assert_eq!(Saved::parse("\0garbage\nepoch x\n", second), Saved::default());
    }
}
