//! From a need to the lease: which change is called for, whom to ask, and what they answer.

use std::time::{Duration, Instant};

use super::{ANSWER_TIME, Action, FIRST_RETRY, LONGEST_RETRY, LinkId, Node, Phase, Step};
use crate::core::backoff::Backoff;
use crate::core::lease::Wish;
use crate::core::protocol::{FromNode, NOT_NOW, Reason};
use crate::error::{Error, Kind};

impl Node {
    /// Which change is called for?
    pub(super) fn need(&self) -> Option<Wish> {
        if self.wanted.is_some() {
            return self.wanted;
        }
        if let Some(interruption) = &self.interruption {
            return interruption.wants_replacement().then_some(Wish::Grow);
        }
        if self.masters.other_is_at_it() {
            return None;
        }
        if self
            .window
            .mean()
            .is_some_and(|mean| mean >= self.settings.threshold)
        {
            return Some(Wish::Grow);
        }
        let calm = self
            .calm
            .mean()
            .is_some_and(|mean| mean <= self.settings.scale_down_threshold);
        if self.untidy {
            // The way of a scale-up clears up first, and then finds no need for a launch.
            return Some(Wish::Grow);
        }
        (calm && !self.stays).then_some(Wish::Shrink)
    }

    /// What such a change would go by: the mean CPU, if the window is full, the window and the
    /// threshold, percentages both.
    pub fn grounds(&self, wish: Wish) -> (Option<f64>, Duration, f64) {
        let settings = &self.settings;
        match wish {
            Wish::Grow => (self.window.mean(), settings.window, settings.threshold),
            Wish::Shrink => (
                self.calm.mean(),
                settings.scale_down_window,
                settings.scale_down_threshold,
            ),
        }
    }

    /// Begins to ask when there is a need and nothing stands against it.
    pub(super) fn consider(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Watching) {
            return;
        }
        let Some(wish) = self.need() else {
            self.refused = None;
            return;
        };
        if !self.has_master() {
            if !self.said_alone {
                self.said_alone = true;
                self.say("no master is connected: waiting for one before scaling".into());
            }
            return;
        }
        let (mean, window, threshold) = self.grounds(wish);
        let what = match wish {
            Wish::Grow => "up",
            Wish::Shrink => "down",
        };
        let tidies = self.untidy && wish == Wish::Grow;
        let by_load = !tidies && !self.refused_before(wish);
        let by_hand = self.wanted.is_some();
        self.need.why = match mean {
            _ if by_hand => "asked for by hand".into(),
            _ if self.interruption.is_some() => "EC2 takes a machine back".into(),
            _ if tidies => "what was left behind".into(),
            Some(mean) => {
                let window = window.as_secs_f64();
                format!("CPU at {mean:.0}% over {window} s, threshold {threshold:.0}%")
            }
            None => String::new(),
        };
        if mean.is_some() && by_load {
            self.say(format!("scale-{what}: {}", self.need.why));
        }
        self.ask_next(wish, now);
    }

    /// Has the last question been this one, and in vain?
    pub(super) fn refused_before(&self, wish: Wish) -> bool {
        self.refused.is_some_and(|(refused, _)| refused == wish)
    }

    /// Is an answer of this master awaited, and to what?
    pub(super) fn is_asking(&self, name: &str) -> Option<Wish> {
        match &self.phase {
            Phase::Asking { wish, asked, .. } if asked == name => Some(*wish),
            _ => None,
        }
    }

    /// Asks the first master, by name, that has not granted; with all of them granted, begins.
    pub(super) fn ask_next(&mut self, wish: Wish, now: Instant) {
        if let Some((asked, link)) = self.masters.next_to_ask() {
            let question = match wish {
                Wish::Grow => FromNode::Scale {
                    machines: None,
                    force: false,
                },
                Wish::Shrink => FromNode::Retire { force: false },
            };
            self.out.push(Action::Send(link, question));
            self.phase = Phase::Asking {
                wish,
                asked,
                since: now,
            };
        } else if !self.masters.any_lease() {
            self.back_to_waiting(Kind::Unavailable, "every master is gone", ANSWER_TIME, now);
        } else if wish == Wish::Shrink && self.wanted.is_none() {
            self.phase = Phase::Resampling;
        } else {
            self.begin(wish);
        }
    }

    /// The first step, with every grant in hand.
    pub(super) fn begin(&mut self, wish: Wish) {
        if self.refused_before(wish) {
            // What was not said again at every question.
            self.say(format!("granted by every master: {}", self.need.why));
        }
        self.refused = None;
        let retry = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        self.phase = Phase::Working {
            wish,
            launched: None,
            did: String::new(),
            sick: None,
            next: None,
            retry,
        };
        self.out.push(Action::Run(match wish {
            Wish::Shrink => Step::Identify,
            Wish::Grow if self.settings.ec2 => Step::Survey,
            Wish::Grow => Step::Launch {
                fleet: Vec::new(),
                short: Vec::new(),
            },
        }));
    }

    pub(super) fn granted(
        &mut self,
        link: LinkId,
        name: &str,
        id: String,
        secs: u64,
        epoch: u64,
        now: Instant,
    ) {
        let asking = match &self.phase {
            Phase::Asking { wish, asked, since } if asked == name => Some((*wish, *since)),
            _ => None,
        };
        if asking.is_none() && !self.masters.holds(name, &id) {
            // An answer that came after its time: nobody waits for it any more.
            let text = "the answer came too late".into();
            self.out.push(Action::Send(
                link,
                FromNode::Finish {
                    lease: id,
                    ok: false,
                    launched: 0,
                    text,
                },
            ));
            return;
        }
        let length = Duration::from_secs(secs);
        self.masters
            .granted(name, id, length, asking.map_or(now, |(_, since)| since));
        self.next_heartbeat = self.next_heartbeat.min(now + length / 3);
        if asking.is_none_or(|(wish, _)| !self.refused_before(wish)) {
            self.say(format!("master {name}: granted, epoch {epoch}"));
        }
        if let Some((wish, _)) = asking {
            self.ask_next(wish, now);
        }
    }

    pub(super) fn told_to_wait(&mut self, name: &str, reason: Reason, secs: u64, now: Instant) {
        if let Some(wish) = self.is_asking(name) {
            let why = format!("master {name}: {}", explain(reason, secs));
            if self.refused != Some((wish, reason)) {
                self.say(why.clone());
            }
            self.refused = Some((wish, reason));
            if reason == Reason::Full {
                // Nobody will get the lease for it soon, and it must not keep this node from leaving.
                self.untidy = false;
            }
            self.back_to_waiting(Kind::Busy, &why, Duration::from_secs(secs.max(1)), now);
        } else if self.masters.lost(name) {
            // The answer to HOLD.
            self.say(format!("master {name}: the lease is lost"));
        }
    }

    /// Gives back what was granted and asks nobody for a while.
    pub(super) fn back_to_waiting(&mut self, kind: Kind, why: &str, wait: Duration, now: Instant) {
        // Only EC2's reasons come up at work; a master's do while asking.
        let firm = matches!(self.phase, Phase::Working { .. });
        self.need.against = why.into();
        self.masters
            .give_back(false, &format!("{NOT_NOW}{why}"), &mut self.out);
        self.phase = Phase::Waiting {
            until: now + wait,
            firm,
        };
        self.end(Err(Error::new(kind, "scaling", why)));
    }
}

fn explain(reason: Reason, secs: u64) -> String {
    match reason {
        Reason::Holder => format!("another node scales, {secs} s of its lease left"),
        Reason::Cooldown => format!("cooldown, {secs} s left"),
        Reason::Starting => format!("it has just started, {secs} s until it grants"),
        Reason::Booting => "what is missing is on its way".into(),
        Reason::Full => "max_hosts or max_launches_per_day is reached".into(),
        Reason::Few => "no more than min_hosts, or nobody else is UP".into(),
        Reason::Loaded => "the others could not take the load".into(),
        Reason::Failing => format!("back-off after failures, {secs} s left"),
    }
}
