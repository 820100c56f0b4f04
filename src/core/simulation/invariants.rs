//! What has to hold whatever fails. Each is looked at when something happens that could break it.

mod fates;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Ms;
use super::cloud::Vm;
use super::events::Who;
use super::site::Lasting;
use super::world::{Launched, World};
use crate::core::node::{Machine, Outcome, Purpose, Step};
use crate::core::protocol::FromNode;

/// EC2 tells times in whole seconds, and so does the header that clocks are set by.
const EC2_CLOCK: Ms = 3000;
/// What is different for longer than this could have been known.
const KNOWN: Ms = 60_000;
/// The longest that all steps under one lease may take together; after the faults, and before.
const LONGEST_LEASE: [Ms; 2] = [200_000, 900_000];

/// What a daemon has found out, and what it has begun.
#[derive(Debug, Default)]
pub struct Known {
    /// The ids of what it launched, and of those the ones that did not come to serve.
    own: BTreeSet<String>,
    failed: BTreeSet<String>,
    surveyed: bool,
    /// Every HAProxy host has answered in the last survey with the lease.
    asked_all: bool,
    drained: bool,
    /// In its last survey it reached nobody, and none but its own machine served.
    alone: bool,
    /// By the words for it: failures in a row, and until when it must not ask.
    pauses: [(u32, Option<Instant>); 3],
}

const PAUSES: [&str; 3] = ["scaling", "clearing up", "leaving"];

impl World {
    /// The real lease against the ledger; and no lease for ever.
    pub fn judge_master(&mut self, number: usize, verdict: Result<(), String>) {
        if let Err(text) = verdict {
            self.violate(format!("lb{number}: {text}"));
        }
        let epoch = self.balancers[number].epoch_held();
        let known = &mut self.balancers[number].lease_since;
        match epoch {
            None => *known = None,
            Some(epoch) if known.is_none_or(|(known, _)| known != epoch) => *known = Some((epoch, self.now)),
            Some(_) => {
                let since = known.map_or(self.now, |(_, since)| since);
                let longest = LONGEST_LEASE[usize::from(since < self.site.faults.until + KNOWN)];
                if self.now - since > longest {
                    self.violate(format!("lb{number}: a lease is held for {} ms", self.now - since));
                }
            }
        }
    }

    /// No two nodes hold a lease of the same master, as they see it.
    pub fn judge_beliefs(&mut self, number: usize) {
        let leases = |number: usize| {
            let server = &self.servers[number];
            let now = self.clock(Who::Daemon(number));
            server.node.iter().flat_map(move |node| node.leases(now))
        };
        if leases(number).next().is_none() {
            return;
        }
        let sane = |number: &usize| self.now >= self.servers[*number].deluded_until;
        let twice = (0..self.servers.len())
            .filter(|other| *other != number && sane(other) && sane(&number))
            .find_map(|other| {
                let theirs = leases(other).find(|(name, _)| leases(number).any(|(own, _)| own == *name))?;
                Some(format!(
                    "app{number} and app{other} both hold a lease of {}",
                    theirs.0
                ))
            });
        if let Some(text) = twice {
            self.violate(text);
        }
    }

    /// Has this node, right now, the latest grant of every master that it is connected to?
    fn may_act(&self, number: usize) -> Result<(), String> {
        let now = self.clock(Who::Daemon(number));
        let Some(node) = &self.servers[number].node else {
            return Ok(());
        };
        if self.now < self.servers[number].deluded_until {
            return Ok(());
        }
        let mut leased = Vec::new();
        for (name, id) in node.leases(now) {
            let balancer = self.balancer_called(name);
            let latest = self.balancers[balancer]
                .ledger
                .as_ref()
                .map_or(0, |l| l.last_epoch);
            let epoch = id.split('-').next().and_then(|e| e.parse().ok());
            if epoch != Some(latest) {
                return Err(format!(
                    "its lease {id} of {name} is stale, the latest epoch is {latest}"
                ));
            }
            leased.push(balancer);
        }
        if leased.is_empty() {
            return Err("it holds no lease that has time left".into());
        }
        match self.greeted(number).find(|balancer| !leased.contains(balancer)) {
            Some(balancer) => Err(format!("lb{balancer} is connected and has not granted")),
            None => Ok(()),
        }
    }

    /// Nobody acts without its leases, on what it has not seen, or on another machine than it may.
    pub fn judge_step(&mut self, number: usize, step: &Step) {
        let known = &self.servers[number].known;
        let own = &self.cloud.vms[&number];
        let is_own = |m: &Machine| m.instance.as_ref() == Some(&own.id);
        let newcomer = |id: Option<&String>| id.is_some_and(|id| known.own.contains(id));
        let taken_back = own.notice.is_some();
        let wrong = match step {
            Step::Terminate { id } if newcomer(Some(id)) => {
                let right = known.failed.contains(id) || known.surveyed;
                return self.violate_unless(right, number, step, "it has not failed its health check");
            }
            Step::Drain {
                machine,
                force: false,
                ..
            } if newcomer(machine.instance.as_ref()) => return,
            Step::Drain {
                machine, force: true, ..
            } => {
                return self.violate_unless(
                    taken_back && is_own(machine),
                    number,
                    step,
                    "nobody takes it back",
                );
            }
            Step::Depart { machine } => (!(known.drained && own.tagged && is_own(machine)))
                .then(|| "it is not drained, or not itself, or not tagged".to_string()),
            Step::Terminate { id } => (!known.asked_all || *id == own.id)
                .then(|| "not every HAProxy host was asked, or it is itself".to_string()),
            Step::Drain { machine, .. } => (!is_own(machine)).then(|| "it is not itself".to_string()),
            Step::Launch { count, short, .. } => {
                let granted = self.granted(number);
                (self.servers[number].granted, self.servers[number].passed_over) =
                    (granted, !short.is_empty());
                (*count as usize > granted).then(|| format!("{granted} were granted"))
            }
            _ => return,
        };
        let wrong = wrong.map_or_else(|| self.may_act(number), Err);
        if let Err(text) = wrong {
            self.violate(format!("app{number} does {step:?}: {text}"));
        }
    }

    fn violate_unless(&mut self, right: bool, number: usize, step: &Step, why: &str) {
        if !right {
            self.violate(format!("app{number} does {step:?}: {why}"));
        }
    }

    /// The largest number of machines that its leases allow.
    pub fn granted(&self, number: usize) -> usize {
        let now = self.clock(Who::Daemon(number));
        let node = self.servers[number].node.as_ref();
        let leases = node.into_iter().flat_map(|node| node.leases(now));
        let machines = leases.filter_map(|(name, id)| {
            let key = (self.balancer_called(name), id.to_string());
            self.grants.get(&key).copied()
        });
        machines.max().unwrap_or(0)
    }

    pub fn judge_outcome(&mut self, number: usize, outcome: &Outcome) {
        let alone = self.sees_itself_alone(number);
        let known = &mut self.servers[number].known;
        match outcome {
            Outcome::Surveyed(purpose, Ok(survey)) => {
                (known.surveyed, known.alone) = (true, alone);
                if *purpose == Purpose::Lease {
                    known.asked_all = survey.listings.iter().all(Result::is_ok);
                }
            }
            Outcome::Launched(launched) => {
                let ids = launched.machines.iter().filter_map(|m| m.instance.clone());
                known.own.extend(ids);
                if !launched.machines.is_empty() {
                    known.pauses[0] = (0, None);
                }
            }
            Outcome::Booted(machine, Err(_)) | Outcome::Confirmed(machine, Err(_)) => {
                known.failed.extend(machine.instance.clone());
            }
            Outcome::Drained(_, told) => known.drained = told.iter().all(|(_, result)| result.is_ok()),
            Outcome::Terminated(id, Ok(())) if !known.own.contains(id) => known.pauses[1] = (0, None),
            _ => {}
        }
    }

    /// Back-off doubles, and is kept.
    pub fn judge_words(&mut self, number: usize, text: &str) {
        let Some((what, rest)) = text.split_once(" failed, next try in ") else {
            return;
        };
        let Some(at) = PAUSES.iter().position(|word| *word == what) else {
            return;
        };
        let said: Option<u64> = rest.split(' ').next().and_then(|n| n.parse().ok());
        let now = self.clock(Who::Daemon(number));
        let (failures, until) = &mut self.servers[number].known.pauses[at];
        let due = (10 << (*failures).min(20)).min(3600);
        *failures += 1;
        *until = Some(now + Duration::from_secs(due));
        if said != Some(due) {
            self.violate(format!(
                "app{number} backs off for {said:?} s, and has to for {due} s"
            ));
        }
    }

    pub fn judge_question(&mut self, number: usize, message: &FromNode) {
        let now = self.clock(Who::Daemon(number));
        let at = match message {
            FromNode::Scale { machines: None, .. } => 0,
            FromNode::Scale {
                machines: Some(0), ..
            } => 1,
            FromNode::Retire { .. } => 2,
            _ => return,
        };
        let (_, until) = self.servers[number].known.pauses[at];
        // An announcement of EC2's ends what stood against a replacement.
        let announced = self.cloud.vms[&number].notice.is_some();
        if !announced && until.is_some_and(|until| now < until) {
            self.violate(format!("app{number} asks during its back-off"));
        }
    }

    /// As many as were granted for one need, and no more than there may be.
    pub fn judge_launch(&mut self, by: usize, count: usize) {
        let (now, cooldown) = (self.now, self.site.cooldown);
        let granted = self.servers[by].granted;
        let first = self.servers.len();
        self.launches.push(Launched {
            at: now,
            first,
            count,
            granted,
            passed_over: self.servers[by].passed_over,
        });
        if self.site.has(Lasting::Refusing(None)) {
            return self.violate(format!("app{by} launches, and no HAProxy host would take it"));
        }
        // A try that comes late may find capacity where the next one, which was answered, found none.
        let came_back = |zone: usize| now < self.cloud.capacity_changed[zone] + 60_000;
        if (0..self.site.zones).any(came_back) {
            return;
        }
        let recent = |l: &&Launched| now - l.at + EC2_CLOCK < cooldown;
        // So may one, where the other passed over what had none minutes ago.
        let passed_over = self.launches.iter().filter(recent).any(|l| l.passed_over);
        // What EC2 ended at once is made good by the next token.
        let live = |n: &usize| self.cloud.vms.get(n).is_none_or(|vm| vm.is_live());
        let count_live = |l: &Launched| (l.first..l.first + l.count).filter(live).count();
        let sum: usize = self.launches.iter().filter(recent).map(count_live).sum();
        let most = self
            .launches
            .iter()
            .filter(recent)
            .map(|l| l.granted)
            .max()
            .unwrap_or(0);
        if sum > most && !passed_over {
            let all: Vec<&Launched> = self.launches.iter().filter(recent).collect();
            return self.violate(format!("{sum} are launched where {most} were granted: {all:?}"));
        }
        let known = |vm: &&Vm| vm.unleased_at == 0 || now > vm.unleased_at + KNOWN + self.site.lag;
        let ours = self.cloud.vms.values().filter(|vm| vm.is_ours());
        let ours = ours.filter(known).count();
        if ours + count > self.site.max_hosts {
            self.violate(format!(
                "{ours} instances are live, and {count} more are launched"
            ));
        }
        let most = self.site.max_launches;
        let hour_ago = now.saturating_sub(3_500_000);
        // What EC2 ended at once is made good by the next token.
        let lived = |vm: &Vm| {
            let began = vm.launched.unwrap_or(0);
            vm.ended.is_none_or(|at| at > began + KNOWN)
        };
        let counted = self.cloud.vms.values().filter(|vm| vm.tagged && lived(vm));
        let counted = counted
            .filter(|vm| vm.ended.is_none_or(|at| at > hour_ago))
            .count();
        if most > 0 && counted + count > most {
            self.violate(format!("{counted} launches of this day, and {count} more"));
        }
    }
}
