//! What has to hold whatever fails. Each is looked at when something happens that could break it.

use std::time::Duration;

use super::Ms;
use super::balancer::Balancer;
use super::cloud::EPOCH;
use super::events::{Event, Who};
use super::site::ROOM;
use super::world::{World, note};
use crate::core::fleet::Survey;
use crate::core::node::{Outcome, Step};
use crate::core::protocol::FromNode;

/// Between two looks at whether the site has come to rest, and how long it may take.
const LOOK: Ms = 5000;
const LONGEST_UNREST: Ms = 3_000_000;
/// Samples and answers from before the last fault count for no longer than this.
const AFTERMATH: Ms = 120_000;
/// EC2 tells times in whole seconds, and so does the header that clocks are set by.
const EC2_CLOCK: Ms = 3000;

/// What a daemon has been told by its steps.
#[derive(Debug, Default)]
pub struct Known {
    survey: Option<Survey>,
    unhealthy: Option<String>,
    drained: bool,
    /// Who let it leave.
    leave_of: Vec<usize>,
}

impl World {
    /// The real lease against the ledger.
    pub fn judge_master(&mut self, number: usize, verdict: Result<(), String>) {
        if let Err(text) = verdict {
            self.violate(format!("lb{number}: {text}"));
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
        let known = &mut self.servers[number].known;
        let wrong = match step {
            Step::Clear { ids } => {
                let survey = known.survey.as_ref();
                let right =
                    survey.is_some_and(|s| ids.iter().all(|id| is_leftover(s, id, self.site.boot_timeout)));
                (!right)
                    .then(|| "not every HAProxy host was asked, or one lists it, or it is young".to_string())
            }
            Step::Terminate { id } => (known.unhealthy.as_ref() != Some(id))
                .then(|| "that instance has not failed its health check".to_string()),
            Step::Depart { machine } => {
                let own = &self.cloud.vms[&number];
                let right = known.drained && own.tagged && machine.instance.as_ref() == Some(&own.id);
                (!right).then(|| "it is not drained, or not itself, or not tagged".to_string())
            }
            Step::Drain { .. } => {
                let now = self.clock(Who::Daemon(number));
                let node = self.servers[number].node.as_ref();
                let leases = node.iter().flat_map(|node| node.leases(now));
                let leave_of = leases.map(|(name, _)| self.balancer_called(name)).collect();
                self.servers[number].known.leave_of = leave_of;
                None
            }
            Step::Launch { .. } => None,
            _ => return,
        };
        let wrong = wrong.map_or_else(|| self.may_act(number), Err);
        if let Err(text) = wrong {
            self.violate(format!("app{number} does {step:?}: {text}"));
        }
    }

    pub fn judge_outcome(&mut self, number: usize, outcome: &Outcome) {
        let known = &mut self.servers[number].known;
        match outcome {
            Outcome::Surveyed(Ok(survey)) => known.survey = Some(survey.clone()),
            Outcome::Booted(machine, Err(_)) => known.unhealthy.clone_from(&machine.instance),
            Outcome::Drained(_, told) => known.drained = told.iter().any(|(_, result)| result.is_ok()),
            _ => {}
        }
    }

    /// Back-off doubles, and is kept.
    pub fn judge_words(&mut self, number: usize, text: &str) {
        let Some(rest) = text.strip_prefix("scaling failed, next try in ") else {
            return;
        };
        let said: Option<u64> = rest.split(' ').next().and_then(|n| n.parse().ok());
        let now = self.clock(Who::Daemon(number));
        let server = &mut self.servers[number];
        let due = (10 << server.failures.min(20)).min(3600);
        server.failures += 1;
        server.quiet_until = Some(now + Duration::from_secs(due));
        if said != Some(due) {
            self.violate(format!(
                "app{number} backs off for {said:?} s, and has to for {due} s"
            ));
        }
    }

    pub fn judge_question(&mut self, number: usize, message: &FromNode) {
        let now = self.clock(Who::Daemon(number));
        let asks = matches!(message, FromNode::Scale { .. } | FromNode::Retire { .. });
        if asks && self.servers[number].quiet_until.is_some_and(|until| now < until) {
            self.violate(format!("app{number} asks during its back-off"));
        }
    }

    /// One machine per need, and no more than there may be.
    pub fn judge_launch(&mut self, by: usize, zone: usize) {
        let (now, cooldown) = (self.now, self.site.cooldown);
        // A try that comes late may find capacity where the next one, which was answered, found none.
        let came_back = now < self.cloud.capacity_changed[zone] + 60_000;
        let recent = self.cloud.live().find(|(_, vm)| {
            vm.launched
                .is_some_and(|at| now - at + EC2_CLOCK < cooldown && !(came_back && vm.zone != zone))
        });
        if let Some((_, vm)) = recent {
            let text = format!(
                "app{by} launches another machine {} ms after {} in zone {} (this one: {zone})",
                now - vm.launched.unwrap_or(0),
                vm.id,
                vm.zone
            );
            self.violate(text);
        }
        let live = self.cloud.live().count();
        if live >= self.site.max_hosts + usize::from(came_back) {
            self.violate(format!("{live} instances are live, and one more is launched"));
        }
    }

    pub fn judge_termination(&mut self, machine: usize) {
        if !self.cloud.vms[&machine].tagged {
            self.violate(format!("app{machine} is terminated, and is not tagged"));
        }
    }

    /// A machine that leaves has been taken out. What split nodes took out here that did not see this
    /// host's master is not this master's doing.
    pub fn judge_removal(&mut self, host: usize, by: usize) {
        if !self.servers[by].known.leave_of.contains(&host) {
            self.balancers[host].taken_out_unasked += 1;
            return;
        }
        let balancer = &self.balancers[host];
        let left = balancer.hosts.len() + balancer.taken_out_unasked;
        if left < self.site.min_hosts {
            self.violate(format!(
                "app{by} leaves lb{host} with {left} entries, under min_hosts"
            ));
        }
    }

    /// After the last fault: has the site come to rest, and does it stay?
    pub fn inspect(&mut self) {
        let calm = self.now - self.site.faults.until;
        let stay = self.site.cooldown.max(self.site.scale_down_cooldown) + 60_000;
        let listed = |n: &usize| {
            self.balancers
                .iter()
                .any(|host| host.servers(&self.addresses).any(|s| s == *n))
        };
        if !(0..self.servers.len()).any(|n| self.cloud.vms[&n].is_live() && listed(&n)) {
            // EC2 ended the last one while another left: nobody is left to decide anything.
            self.done = true;
            return;
        }
        match self.unrest() {
            Some(why) => {
                note!(self, "not at rest: {why}");
                self.settled.since = None;
                if calm > LONGEST_UNREST {
                    return self.violate(format!("the site does not come to rest: {why}"));
                }
            }
            None => {
                let since = *self.settled.since.get_or_insert(self.now);
                self.done = self.now - since >= stay;
            }
        }
        let settling = self.site.faults.until + AFTERMATH;
        let late = self.settled.changes.iter().filter(|(at, _)| *at > settling);
        let sum: i32 = late.clone().map(|(_, change)| change).sum();
        if late.count() as i32 != sum.abs() {
            self.violate(format!(
                "it grows and shrinks with one load: {:?}",
                self.settled.changes
            ));
        }
        self.after(LOOK, Event::Inspect);
    }

    /// Why the site is not yet what it has to become.
    fn unrest(&self) -> Option<String> {
        for (machine, vm) in self.cloud.live() {
            // Nobody gets the lease to clear up where hosts.d is full.
            let full = |host: &Balancer| host.hosts.len() >= self.site.max_hosts;
            let listed = self.balancers.iter().filter(|host| host.lists(&vm.id)).count();
            if listed == 0 && self.balancers.iter().any(full) {
                continue;
            }
            if listed < self.balancers.len() {
                return Some(format!("{} is neither serving everywhere nor terminated", vm.id));
            }
            if !self.is_healthy(*machine) {
                return Some(format!("{} does not serve", vm.id));
            }
        }
        for (number, host) in self.balancers.iter().enumerate() {
            let gone = |id: &String| self.cloud.by_id(id).is_none_or(|(_, vm)| !vm.is_live());
            if let Some(entry) = host.hosts.iter().find(|l| l.instance.as_ref().is_some_and(gone)) {
                return Some(format!("lb{number} lists {}, which is gone", entry.name));
            }
            if host.is_leased() {
                return Some(format!("lb{number}: a lease is held"));
            }
        }
        let hosts = self.balancers[0].hosts.len();
        let least = self.balancers[0].servers(&self.addresses).next()?;
        let share = self.share(least);
        let live = self.cloud.live().count();
        if share >= self.site.threshold && hosts.max(live) < self.site.max_hosts {
            return Some(format!("{hosts} machines at {share:.1}% are too few"));
        }
        // As it is told, in whole percent.
        let told = share.ceil();
        let others = told + told / (hosts as f64 - 1.0);
        let shrinks = self.site.scale_down_threshold > 0.0 && share <= self.site.scale_down_threshold;
        let can = live > 0 && hosts > self.site.min_hosts && others <= ROOM * self.site.threshold;
        (shrinks && can).then(|| format!("{hosts} machines at {share:.1}% are too many"))
    }
}

/// By that survey, did the instance never come into service, and had its time?
fn is_leftover(survey: &Survey, id: &str, boot_timeout: Ms) -> bool {
    let Some(instance) = survey.instances.iter().find(|i| i.id == id) else {
        return false;
    };
    let old = survey.now.saturating_sub(instance.launched_at) >= boot_timeout / 1000;
    let lists = |listing: &Option<Vec<_>>| {
        listing
            .as_ref()
            .is_none_or(|l| l.iter().any(|l: &crate::core::fleet::Listed| l.is(instance)))
    };
    debug_assert!(survey.now >= EPOCH);
    instance.live && old && !survey.listings.iter().any(lists)
}
