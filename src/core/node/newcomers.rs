//! The machines that this node launched, each on its way by itself, without a lease: boot → enter →
//! UP; or to its end.

use std::time::{Duration, Instant};

use super::{Action, FIRST_RETRY, LONGEST_RETRY, Machine, Node, Outcome, Step, Told, Wanted};
use crate::core::backoff::Backoff;
use crate::core::plan::is_machine;
use crate::core::protocol::FromNode;
use crate::error::{Error, Kind};

/// For a HAProxy's checks to take it up, however late it was entered.
const CONFIRM: Duration = Duration::from_secs(60);

#[derive(Debug)]
enum Stage {
    Booting,
    Entering,
    /// In one HAProxy at least, which has to take it up.
    Confirming,
    Serving,
    /// It was not seen to be healthy in time, and why; a HAProxy may know better.
    Doubtful(Box<Error>),
    /// It has to go, and why.
    Ending(Box<Error>),
}

#[derive(Debug)]
struct Newcomer {
    machine: Machine,
    /// Why it was launched; meanwhile there may be other needs.
    why: String,
    /// It has to serve by then.
    until: Instant,
    stage: Stage,
    /// HAProxy hosts that have not been told yet.
    owed: Vec<String>,
    /// When to wait for its boot, or to tell them; `None` for the time while that is done.
    next: Option<Instant>,
    retry: Backoff,
}

#[derive(Debug, Default)]
pub struct Newcomers {
    all: Vec<Newcomer>,
    /// Launched by a group that does not say which yet.
    unnamed: u32,
    /// A command waits for them; and what went wrong with one so far.
    awaited: bool,
    trouble: Option<Error>,
}

impl Newcomers {
    /// Is none on its way?
    pub fn is_empty(&self) -> bool {
        self.unnamed == 0 && self.all.iter().all(|n| matches!(n.stage, Stage::Serving))
    }

    pub fn expect(
        &mut self,
        machines: Vec<Machine>,
        unnamed: u32,
        why: &str,
        boot_timeout: Duration,
        now: Instant,
    ) {
        self.unnamed += unnamed;
        self.all.extend(machines.into_iter().map(|machine| Newcomer {
            machine,
            why: why.into(),
            until: now + boot_timeout,
            stage: Stage::Booting,
            owed: Vec::new(),
            next: Some(now),
            retry: Backoff::new(FIRST_RETRY, LONGEST_RETRY),
        }));
    }

    pub fn are_awaited(&mut self) {
        self.awaited = true;
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.all.iter().filter_map(|n| n.next).min()
    }

    fn position(&self, machine: &Machine) -> Option<usize> {
        // Where EC2 has not given an address yet, the id alone says which.
        self.all.iter().position(|n| is_machine(&n.machine, machine))
    }
}

impl Node {
    /// Sees machines through that somebody else launched, each for as long as it has left.
    pub(super) fn adopt_newcomers(&mut self, machines: Vec<(Machine, Duration)>, now: Instant) {
        for (machine, left) in machines {
            if self.newcomers.position(&machine).is_none() {
                let title = machine.title();
                self.out.push(Action::Say(format!(
                    "{title} boots and nobody sees to it: taking it in"
                )));
                self.newcomers.expect(vec![machine], 0, &self.need.why, left, now);
            }
        }
    }

    /// The HAProxy hosts that have not been told of a machine that serves.
    pub fn owed(&self) -> Vec<&str> {
        let all = self.newcomers.all.iter();
        all.flat_map(|n| n.owed.iter().map(String::as_str)).collect()
    }

    /// Does what is due for them.
    pub(super) fn newcomers_when_due(&mut self, now: Instant) {
        for newcomer in &mut self.newcomers.all {
            if newcomer.next.take_if(|at| now >= *at).is_none() {
                continue;
            }
            let machine = newcomer.machine.clone();
            let step = match newcomer.stage {
                Stage::Booting => Step::Boot {
                    machine,
                    time: newcomer.until.saturating_duration_since(now),
                },
                _ => Step::Enter {
                    machine,
                    servers: newcomer.owed.clone(),
                    by_plan: false,
                },
            };
            self.out.push(Action::Run(step));
        }
    }

    /// Takes the outcome if it is about one of them; otherwise gives it back.
    pub(super) fn of_a_newcomer(&mut self, outcome: Outcome, now: Instant) -> Option<Outcome> {
        let at = match &outcome {
            Outcome::Booted(machine, _)
            | Outcome::Entered(machine, _)
            | Outcome::Confirmed(machine, _)
            | Outcome::Drained(machine, _) => self.newcomers.position(machine),
            Outcome::Terminated(id, _) => {
                // Not one that the plan has ended meanwhile: its own end comes by itself.
                let ending = |n: &Newcomer| matches!(n.stage, Stage::Ending(_));
                let is_it = |n: &Newcomer| n.machine.instance.as_ref() == Some(id) && ending(n);
                self.newcomers.all.iter().position(is_it)
            }
            _ => None,
        };
        let Some(at) = at else {
            return Some(outcome);
        };
        match outcome {
            Outcome::Booted(machine, Ok(())) => {
                self.say(format!(
                    "{} is healthy at {}:{}",
                    machine.title(),
                    machine.host,
                    machine.port
                ));
                let servers = self.settings.servers.clone();
                let newcomer = &mut self.newcomers.all[at];
                newcomer.machine = machine;
                newcomer.stage = Stage::Entering;
                (newcomer.owed, newcomer.next) = (servers, Some(now));
                self.newcomers_when_due(now);
            }
            Outcome::Booted(machine, Err(error)) if self.settings.plan.ec2 && error.kind() != Kind::Busy => {
                self.say(error.to_string());
                self.newcomers.all[at].stage = Stage::Doubtful(Box::new(error));
                let time = Duration::ZERO;
                self.out.push(Action::Run(Step::Confirm { machine, time }));
            }
            Outcome::Booted(_, Err(error)) => {
                self.say(error.to_string());
                self.does_not_serve(at, error);
            }
            Outcome::Entered(_, told) => self.entered(at, &told, now),
            Outcome::Confirmed(_, Ok(())) => {
                self.newcomers.all[at].stage = Stage::Serving;
                self.serves(at);
            }
            Outcome::Confirmed(machine, Err(error)) => self.not_confirmed(at, machine, error),
            Outcome::Drained(..) => {
                if let Stage::Ending(why) = &self.newcomers.all[at].stage {
                    let why = why.as_ref().clone();
                    self.say(why.to_string());
                    self.does_not_serve(at, why);
                }
            }
            Outcome::Terminated(id, result) => {
                if let Err(error) = result {
                    self.say(format!("{error}; whoever looks next sees to {id}"));
                }
                let newcomer = self.newcomers.all.remove(at);
                if let Stage::Ending(why) = newcomer.stage {
                    self.came_to_nothing(1, *why);
                }
            }
            other => return Some(other),
        }
        None
    }

    /// No HAProxy has it UP, as `error` says.
    fn not_confirmed(&mut self, at: usize, machine: Machine, error: Error) {
        let newcomer = &mut self.newcomers.all[at];
        let doubt = match &newcomer.stage {
            Stage::Doubtful(why) => Some(why.as_ref().clone()),
            _ => None,
        };
        match (doubt, error.kind()) {
            // One of which nobody can tell may well serve: whoever looks next sees to it.
            (Some(why), Kind::Busy) => {
                self.say(error.to_string());
                self.newcomers.all.remove(at);
                self.came_to_nothing(1, why);
            }
            (Some(why), _) => self.does_not_serve(at, why),
            // Nobody can tell: it may well serve.
            (None, Kind::Busy) => {
                self.say(error.to_string());
                self.newcomers.all.remove(at);
                self.newcomers.trouble.get_or_insert(error);
                self.end_if_all_came();
            }
            // It was taken out again, as by itself when it had nothing to do.
            (None, Kind::Config) => {
                self.say(error.to_string());
                self.newcomers.all.remove(at);
                self.came_to_nothing(1, error);
            }
            (None, _) => {
                (newcomer.owed, newcomer.next) = (Vec::new(), None);
                newcomer.stage = Stage::Ending(Box::new(error.clone()));
                self.say(error.to_string());
                self.out.push(Action::Run(self.drain(machine, false)));
            }
        }
    }

    /// A group has told which machines it launched.
    pub(super) fn found(&mut self, result: Result<Vec<Machine>, Error>, now: Instant) {
        let expected = std::mem::take(&mut self.newcomers.unnamed);
        let (machines, error) = match result {
            Ok(machines) => (machines, Error::unavailable("the group", "launched fewer")),
            Err(error) => (Vec::new(), error),
        };
        let lost = expected.saturating_sub(machines.len() as u32);
        self.newcomers
            .expect(machines, 0, &self.need.why, self.settings.plan.boot_timeout, now);
        self.newcomers_when_due(now);
        if lost > 0 {
            self.say(error.to_string());
            self.came_to_nothing(lost, error);
        }
    }

    /// It has to go: whoever launched it sees to that, without a lease.
    fn does_not_serve(&mut self, at: usize, error: Error) {
        let newcomer = &mut self.newcomers.all[at];
        // One that a person has stopped is nobody's to terminate.
        let may_end = self.settings.plan.ec2 && error.kind() != Kind::Busy;
        match newcomer.machine.instance.clone().filter(|_| may_end) {
            Some(id) => {
                newcomer.stage = Stage::Ending(Box::new(error));
                self.out.push(Action::Run(Step::Terminate { id }));
            }
            None => {
                self.newcomers.all.remove(at);
                self.came_to_nothing(1, error);
            }
        }
    }

    fn came_to_nothing(&mut self, machines: u32, why: Error) {
        let text = why.to_string();
        let failed = FromNode::Failed {
            machines,
            text: text.clone(),
        };
        self.masters.tell_all(&failed, &mut self.out);
        self.notify("failed", None, text);
        self.newcomers.trouble.get_or_insert(why);
        self.end_if_all_came();
    }

    fn entered(&mut self, at: usize, told: &Told, now: Instant) {
        let machine = self.newcomers.all[at].machine.clone();
        let failed = self.say_entered(&machine, told);
        let some = failed.len() < told.len();
        let newcomer = &mut self.newcomers.all[at];
        if matches!(newcomer.stage, Stage::Ending(_)) {
            return;
        }
        let late = now >= newcomer.until;
        // From then on whoever looks sees to it.
        newcomer.owed = if late { Vec::new() } else { failed };
        newcomer.next = (!newcomer.owed.is_empty()).then(|| now + newcomer.retry.failed());
        match newcomer.stage {
            Stage::Entering if some => {
                newcomer.stage = Stage::Confirming;
                let time = newcomer.until.saturating_duration_since(now).max(CONFIRM);
                self.out.push(Action::Run(Step::Confirm {
                    machine: machine.clone(),
                    time,
                }));
                let why = self.newcomers.all[at].why.clone();
                self.notify("launched", Some(machine), why);
            }
            Stage::Entering if late => {
                // It serves, so it stays, and whoever looks next enters it.
                self.newcomers.all.remove(at);
                let what = format!("{} serves, but no HAProxy could be told of it", machine.title());
                self.say(what.clone());
                self.came_to_nothing(1, Error::unavailable("scale-up", what));
            }
            Stage::Serving => self.serves(at),
            _ => {}
        }
    }

    /// One that serves, and what waits for that.
    fn serves(&mut self, at: usize) {
        let newcomer = &self.newcomers.all[at];
        let machine = newcomer.machine.clone();
        if newcomer.next.is_none() && newcomer.owed.is_empty() {
            self.newcomers.all.remove(at);
        }
        if let Some(interruption) = &mut self.interruption {
            interruption.replaced();
        }
        if let Some(Wanted::Replace { new, .. }) = &mut self.wanted {
            new.get_or_insert(machine);
        }
        self.end_if_all_came();
    }

    /// Those who asked by hand hear how it went once nobody is on the way any more.
    fn end_if_all_came(&mut self) {
        if !self.newcomers.is_empty() {
            return;
        }
        let trouble = self.newcomers.trouble.take();
        if std::mem::take(&mut self.newcomers.awaited) {
            self.out.push(Action::End(trouble.map_or(Ok(()), Err)));
        } else if let (Some(Wanted::Replace { new: None, .. }), Some(error)) = (&self.wanted, trouble) {
            self.end(Err(error));
        }
    }

    /// Says how it went, and returns the hosts that failed.
    pub(super) fn say_entered(&mut self, machine: &Machine, told: &Told) -> Vec<String> {
        let mut failed = Vec::new();
        for (server, result) in told {
            match result {
                Ok(()) => {
                    self.say_once(server, "");
                    self.say(format!("{} is in HAProxy on {server}", machine.title()));
                }
                Err(error) => {
                    self.say_once(server, &error.to_string());
                    failed.push(server.clone());
                }
            }
        }
        failed
    }
}
