//! Everybody looks, in turn: is all as it should be? What needs no lease is put right at once; for the
//! rest, the lease is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{Action, FIRST_BACKOFF, LONGEST_BACKOFF, Machine, Node, Phase, Purpose, Step, Told, Wanted};
use crate::core::backoff::Backoff;
use crate::core::plan::{self, ASK_AGAIN, Fix, Memory, Plan, Survey};
use crate::error::Error;

/// What is said of a survey that failed.
const SURVEY: &str = "the survey";
/// Who looked within this time passes `LOOK` over.
const RECENT: Duration = Duration::from_secs(30);
/// From a termination to the look that takes its entries out.
const AFTER_AN_END: Duration = Duration::from_secs(5);
/// Who does not serve looks for itself whether that has changed.
const AM_I_UP: Duration = Duration::from_secs(60);

/// What the surveys so far have shown.
#[derive(Debug, Default)]
pub struct Looks {
    last: Option<Instant>,
    looking: bool,
    /// Look without being told to.
    again: Option<Instant>,
    /// How many machines `min_hosts` lacks.
    pub lacking: usize,
    /// There is a machine to terminate.
    pub to_terminate: bool,
    /// Does this machine serve? `None`: no HAProxy host lists it, or none was asked yet.
    pub i_serve: Option<bool>,
    /// Ids as EC2 reported them last.
    pub fleet: Vec<String>,
    /// Since when EC2 has not known these ids.
    unknown: BTreeMap<String, Instant>,
    /// Whose termination was refused, and until when it is not tried again.
    refused: BTreeMap<String, (Instant, Backoff)>,
    /// What is being put right: HAProxy host, and machine or entry.
    mending: BTreeSet<(String, String)>,
    /// What was said last of each HAProxy host, and of what is amiss.
    said: BTreeMap<String, String>,
}

impl Looks {
    pub fn deadline(&self) -> Option<Instant> {
        self.again.filter(|_| !self.looking)
    }

    /// Look at `when`, or earlier if that is planned.
    pub fn look_at(&mut self, when: Instant) {
        self.again = Some(self.again.map_or(when, |planned| planned.min(when)));
    }

    /// An order to enter that machine is over, whoever it came from.
    pub fn mended(&mut self, machine: &Machine, told: &Told) {
        for (server, _) in told {
            let key = (server.clone(), machine.title().to_string());
            self.mending.remove(&key);
        }
    }

    /// This one is terminated. The next look takes its entries out.
    pub fn terminated(&mut self, id: &str, now: Instant) {
        self.to_terminate = false;
        self.refused.remove(id);
        self.look_at(now + AFTER_AN_END);
    }

    /// Its termination was refused: it waits longer each time.
    pub fn termination_refused(&mut self, id: String, now: Instant) {
        self.to_terminate = false;
        let first = (now, Backoff::new(FIRST_BACKOFF * 6, LONGEST_BACKOFF));
        let (until, backoff) = self.refused.entry(id).or_insert(first);
        *until = now + backoff.failed();
    }

    fn memory(&self, now: Instant) -> Memory {
        let since = |(id, at): (&String, &Instant)| (id.clone(), now.saturating_duration_since(*at));
        let refused = self.refused.iter().filter(|(_, (until, _))| now < *until);
        Memory {
            unknown: self.unknown.iter().map(since).collect(),
            refused: refused.map(|(id, _)| id.clone()).collect(),
        }
    }
}

impl Node {
    /// `LOOK`.
    pub(super) fn told_to_look(&mut self, now: Instant) {
        let recently = self.looks.last.is_some_and(|at| now < at + RECENT);
        if !recently && !self.masters.any_lease() {
            self.look(now);
        }
    }

    pub(super) fn look_when_due(&mut self, now: Instant) {
        if self.looks.deadline().is_some_and(|at| now >= at) {
            // Where it is not the time for it, a little later.
            self.looks.again = Some(now + AFTER_AN_END);
            if !self.masters.any_lease() {
                self.look(now);
            }
        }
    }

    fn look(&mut self, now: Instant) {
        let idle = matches!(self.phase, Phase::Idle | Phase::Asking { .. });
        if self.looks.looking || !idle || self.is_taken_back() {
            return;
        }
        self.looks.looking = true;
        self.looks.again = None;
        self.looks.last = Some(now);
        self.survey(Purpose::Look);
    }

    pub(super) fn looked(&mut self, result: Result<Survey, Error>, now: Instant) {
        self.looks.looking = false;
        match result {
            Ok(survey) => {
                self.say_once(SURVEY, "");
                self.go_by(&survey, now);
                self.consider(now);
            }
            Err(error) => self.say_once(SURVEY, &error.to_string()),
        }
    }

    /// Plans, remembers what follows, and puts right what needs no lease. One that does not serve
    /// itself leaves it to others, whom it may not even reach.
    pub(super) fn go_by(&mut self, survey: &Survey, now: Instant) -> Plan {
        for (server, listing) in self.settings.servers.clone().iter().zip(&survey.listings) {
            let why = listing.as_ref().err().map_or(String::new(), ToString::to_string);
            self.say_once(&format!("the listing of {server}"), &why);
        }
        self.looks.unknown.retain(|id, _| survey.unknown.contains(id));
        for id in &survey.unknown {
            self.looks.unknown.entry(id.clone()).or_insert(now);
        }
        let memory = self.looks.memory(now);
        let mut rules = self.settings.plan.clone();
        if matches!(self.wanted, Some(Wanted::Grow { force: true, .. })) {
            rules = rules.forced();
        }
        let mut plan = plan::plan(survey, &rules, &memory, self.myself.as_ref());
        self.looks.i_serve = plan.i_serve;
        self.looks.fleet.clone_from(&plan.fleet);
        if plan.i_serve == Some(false) {
            self.looks.look_at(now + AM_I_UP);
            (plan.fixes, plan.terminate, plan.lacking) = (Vec::new(), None, 0);
        }
        self.looks.lacking = plan.lacking;
        self.looks.to_terminate = plan.terminate.is_some();
        if plan.ask_again {
            self.looks.look_at(now + ASK_AGAIN);
        }
        self.say_once("what is amiss", &plan.amiss.join("; "));
        for (at, fix) in plan.fixes.clone() {
            self.mend(at, fix);
        }
        plan
    }

    fn mend(&mut self, at: usize, fix: Fix) {
        let Some(server) = self.settings.servers.get(at).cloned() else {
            return;
        };
        let what = match &fix {
            Fix::Enter(machine) => machine.title(),
            Fix::Remove { name, .. } => name,
        };
        if self.looks.mending.insert((server.clone(), what.into())) {
            self.out.push(Action::Run(match fix {
                Fix::Enter(machine) => Step::Enter {
                    machine,
                    servers: vec![server],
                    by_plan: true,
                },
                Fix::Remove { name, .. } => Step::Remove { server, name },
            }));
        }
    }

    pub(super) fn removed(&mut self, server: &str, name: &str, result: Result<(), Error>) {
        self.looks.mending.remove(&(server.to_string(), name.to_string()));
        match result {
            Ok(()) => {
                self.say_once(server, "");
                self.say(format!("{name} is gone, and out of HAProxy on {server}"));
            }
            Err(error) => self.say_once(server, &error.to_string()),
        }
    }

    /// Says what is wrong with `subject`, unless that was said last; an empty text: nothing any more.
    pub(super) fn say_once(&mut self, subject: &str, text: &str) {
        let before = self.looks.said.insert(subject.into(), text.into());
        if before.as_deref() != Some(text) && !text.is_empty() {
            self.say(text.into());
        }
    }
}
