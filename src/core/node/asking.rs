//! From a need to the lease: which change is called for, whom to ask, and what they answer.

use std::time::{Duration, Instant};

use super::interruption::Interruption;
use super::masters::Question;
use super::{Action, Aim, FIRST_RETRY, Node, Pause, Phase, Purpose, Step, Wanted};
use crate::core::protocol::{FromNode, NOT_NOW, Reason};
use crate::error::{Error, Kind};

impl Node {
    /// Which change is called for, the most urgent first?
    fn needs(&self) -> Vec<Aim> {
        match &self.wanted {
            Some(Wanted::Replace { .. }) if !self.newcomers.is_empty() => return Vec::new(),
            Some(Wanted::Grow { .. }) => return vec![Aim::Grow],
            Some(Wanted::Leave { .. }) => return vec![Aim::Leave],
            Some(Wanted::Replace { .. }) => return vec![Aim::Replace],
            None => {}
        }
        let mut needs = Vec::new();
        if let Some(interruption) = &self.interruption {
            needs.extend(interruption.aim().filter(|_| self.newcomers.is_empty()));
            // Who may have to stay for long does what is to be done as well.
            if interruption.is_fact() {
                return needs;
            }
        }
        if self.masters.other_is_at_it() {
            return needs;
        }
        if self.is_over() || self.looks.lacking > 0 {
            needs.push(Aim::Grow);
        }
        if self.looks.to_terminate {
            needs.push(Aim::Terminate);
        }
        let calm = self
            .calm
            .mean()
            .is_some_and(|mean| mean <= self.settings.scale_down_threshold);
        let announced = self.interruption.is_some();
        if calm && !self.stays && !announced && self.newcomers.is_empty() {
            needs.push(Aim::Leave);
        }
        needs
    }

    /// Is this done because EC2 takes this machine back?
    pub(super) fn is_for_an_interruption(&self, aim: Aim) -> bool {
        let announced = self.interruption.as_ref().and_then(Interruption::aim);
        announced == Some(aim)
    }

    /// Is the load over the threshold, on a machine that serves?
    pub(super) fn is_over(&self) -> bool {
        let mean = self.window.mean();
        mean.is_some_and(|mean| mean >= self.settings.threshold) && self.looks.i_serve != Some(false)
    }

    /// What a change would go by: the mean CPU, if the window is full, the window and the threshold,
    /// percentages both.
    pub fn grounds(&self, aim: Aim) -> (Option<f64>, Duration, f64) {
        let settings = &self.settings;
        match aim {
            Aim::Leave => (
                self.calm.mean(),
                settings.scale_down_window,
                settings.scale_down_threshold,
            ),
            _ => (self.window.mean(), settings.window, settings.threshold),
        }
    }

    pub(super) fn pause(&mut self, aim: Aim) -> &mut Pause {
        &mut self.pauses[aim as usize]
    }

    /// A master is back, which may decide otherwise now.
    pub(super) fn end_soft_pauses(&mut self) {
        for pause in &mut self.pauses {
            pause.until.take_if(|_| !pause.firm);
        }
    }

    /// Another's lease is over: what was refused for it may be granted now, and nothing else.
    pub(super) fn end_waits_for_a_lease(&mut self) {
        for pause in &mut self.pauses {
            let for_it = matches!(pause.refused, None | Some(Reason::Holder));
            pause.until.take_if(|_| !pause.firm && for_it);
        }
    }

    /// Begins to ask when there is a need and nothing stands against it.
    pub(super) fn consider(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Idle) {
            return;
        }
        let needs = self.needs();
        for aim in [Aim::Grow, Aim::Terminate, Aim::Leave, Aim::Replace] {
            if !needs.contains(&aim) {
                self.pause(aim).refused = None;
            }
        }
        let paused = |aim: &Aim| self.pauses[*aim as usize].until.is_some_and(|until| now < until);
        let Some(aim) = needs.into_iter().find(|aim| !paused(aim)) else {
            return;
        };
        if !self.has_master() {
            if !self.said_alone {
                self.said_alone = true;
                self.say("no master is connected: waiting for one before scaling".into());
            }
            return;
        }
        let (mean, window, threshold) = self.grounds(aim);
        let by_load = self.wanted.is_none()
            && !self.is_for_an_interruption(aim)
            && match aim {
                Aim::Grow => self.is_over(),
                Aim::Leave => true,
                Aim::Terminate | Aim::Replace => false,
            };
        self.need.why = match (aim, mean) {
            _ if self.wanted.is_some() => "asked for by hand".into(),
            _ if self.is_for_an_interruption(aim) => "EC2 takes a machine back".into(),
            (_, Some(mean)) if by_load => {
                let window = window.as_secs_f64();
                format!("CPU at {mean:.0}% over {window} s, threshold {threshold:.0}%")
            }
            (Aim::Grow, _) => format!(
                "{} fewer machines than min_hosts {}",
                self.looks.lacking, self.settings.plan.min_hosts
            ),
            _ => "a machine that does not serve".into(),
        };
        if by_load && self.pause(aim).refused.is_none() {
            let direction = if aim == Aim::Leave { "down" } else { "up" };
            self.say(format!("scale-{direction}: {}", self.need.why));
        }
        self.ask_next(aim, now);
    }

    /// What this master is asked for, if it is.
    pub(super) fn is_asking(&self, name: &str) -> Option<Aim> {
        match &self.phase {
            Phase::Asking { aim, asked, .. } if asked == name => Some(*aim),
            _ => None,
        }
    }

    /// The same when it has answered this question, and not one that it was asked for something else.
    pub(super) fn is_answered(&self, name: &str, question: Option<Question>) -> Option<Aim> {
        let asking = self.is_asking(name);
        asking.filter(|aim| question.is_none_or(|question| question == aim.question()))
    }

    /// The line that asks for it.
    fn question(&self, aim: Aim) -> FromNode {
        let (machines, force) = match (aim, &self.wanted) {
            (Aim::Leave, wanted) => {
                let force = matches!(wanted, Some(Wanted::Leave { force: true }));
                return FromNode::Retire { force };
            }
            (_, Some(Wanted::Grow { machines, force })) => (Some(*machines), *force),
            (Aim::Terminate | Aim::Replace, _) => (Some(0), false),
            // One machine for one, whatever the load.
            (Aim::Grow, _) if self.is_for_an_interruption(aim) => (Some(1), false),
            (Aim::Grow, _) => (None, false),
        };
        FromNode::Scale { machines, force }
    }

    /// Asks the first master, by name, that has not granted; with all of them granted, begins.
    pub(super) fn ask_next(&mut self, aim: Aim, now: Instant) {
        if let Some((asked, link)) = self.masters.ask_next(aim.question(), now) {
            // What it decides by, and what people read of beside the decision.
            if let Some(mean) = self.window.mean_so_far() {
                self.out.push(Action::Send(link, FromNode::Load(mean)));
            }
            let question = self.question(aim);
            self.out.push(Action::Send(link, question));
            self.phase = Phase::Asking {
                aim,
                asked,
                since: now,
            };
        } else if self.masters.may_act(now) {
            match (aim, &self.wanted) {
                (Aim::Leave, None) if !self.is_for_an_interruption(aim) => self.phase = Phase::Resampling,
                _ => self.begin(aim),
            }
        } else {
            let why = match self.masters.any_lease() {
                // Those who granted are all away, or it took too long.
                true => "the leases ran out",
                false => "no master is connected any more",
            };
            self.not_now(Kind::Unavailable, why, FIRST_RETRY, now);
        }
    }

    /// All masters have granted.
    pub(super) fn begin(&mut self, aim: Aim) {
        self.phase = Phase::Working {
            aim,
            next: None,
            tries: 0,
            launch: None,
        };
        if aim == Aim::Leave {
            return self.out.push(Action::Run(Step::Identify));
        }
        if aim == Aim::Grow {
            // How many of those that a survey finds booting they count already.
            let links = self.masters.grantors();
            let reports = links.into_iter().map(|link| Action::Send(link, FromNode::Report));
            self.out.extend(reports);
        }
        self.survey(Purpose::Lease);
    }

    pub(super) fn granted(
        &mut self,
        name: &str,
        id: String,
        length: Duration,
        (epoch, machines): (u64, u32),
        now: Instant,
    ) {
        let (question, since) = self.masters.answered(name).unzip();
        let asking = self.is_answered(name, question);
        if self.masters.gave_back(name, &id) {
            // It had not heard of that yet.
            if let Some(aim) = asking {
                self.ask_next(aim, now);
            }
            return;
        }
        if asking.is_none() && !self.masters.holds(name, &id) {
            // An answer that came after its time: nobody waits for it any more.
            let why = format!("{NOT_NOW}the answer came too late");
            return self.masters.refuse(name, id, &why, &mut self.out);
        }
        let since = since.unwrap_or(match &self.phase {
            Phase::Asking { since, .. } => *since,
            _ => now,
        });
        self.masters.granted(name, id, length, machines, since);
        self.next_heartbeat = self.next_heartbeat.min(now + length / 3);
        if asking.is_none_or(|aim| self.pause(aim).refused.is_none()) {
            self.say(format!("master {name}: granted, epoch {epoch}"));
        }
        if let Some(aim) = asking {
            self.ask_next(aim, now);
        }
    }

    pub(super) fn told_to_wait(&mut self, name: &str, reason: Reason, secs: u64, now: Instant) {
        let question = self.masters.answered(name).map(|(question, _)| question);
        if let Some(aim) = self.is_answered(name, question) {
            let why = format!("master {name}: {}", explain(reason, secs));
            if self.pause(aim).refused.replace(reason) != Some(reason) {
                self.say(why.clone());
            }
            self.not_now(Kind::Busy, &why, Duration::from_secs(secs.max(1)), now);
            self.refused_replacement(reason);
        } else if matches!(question, None | Some(Question::Hold)) && self.masters.lost(name) {
            self.say(format!("master {name}: the lease is lost"));
        }
    }

    /// Gives back what was granted and does not ask for the same for a while.
    pub(super) fn not_now(&mut self, kind: Kind, why: &str, wait: Duration, now: Instant) {
        let (aim, firm) = match &self.phase {
            Phase::Asking { aim, .. } => (*aim, false),
            Phase::Resampling => (Aim::Leave, false),
            // Only what a survey found comes up at work; a master's reasons do while asking.
            Phase::Working { aim, .. } => (*aim, true),
            Phase::Idle | Phase::Gone => return,
        };
        self.need.against = why.into();
        self.masters
            .give_back(false, 0, &format!("{NOT_NOW}{why}"), &mut self.out);
        self.phase = Phase::Idle;
        let pause = self.pause(aim);
        (pause.until, pause.firm) = (Some(now + wait), firm);
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
        Reason::Few => "no more than min_hosts serve, or nobody else is UP".into(),
        Reason::Loaded => "the others could not take the load".into(),
        Reason::Failing => format!("back-off after failures, {secs} s left"),
    }
}
