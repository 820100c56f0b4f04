//! What is there, as EC2 and the HAProxy hosts tell it, and what follows from it by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::core::haproxy::listing::Listed;
use crate::core::haproxy::state::State;
use crate::error::Error;

/// A machine on its way into service or out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// EC2's id; `None` where a shell command made it.
    pub instance: Option<String>,
    /// Its address as HAProxy knows it; empty until it is known.
    pub host: String,
    pub port: u16,
}

impl Machine {
    /// How the log calls it.
    pub fn title(&self) -> &str {
        self.instance.as_deref().unwrap_or(&self.host)
    }
}

/// EC2's instance states, as far as they differ here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// `pending` or `running`.
    Live,
    /// `stopping` or `stopped`: nobody's to terminate.
    Stopped,
    /// `shutting-down` or `terminated`.
    Gone,
}

/// One EC2 instance that carries the cluster's tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub id: String,
    pub life: Life,
    /// Its private address, once it has one.
    pub address: Option<String>,
    /// Seconds since 1970, by EC2's clock; `None`: EC2 did not say.
    pub launched_at: Option<u64>,
    /// Tagged `autoscaler:keep`: a person has taken it out.
    pub keep: bool,
    /// Its AMI's id.
    pub image: String,
    /// An Auto Scaling group launched it, or has taken it in.
    pub of_group: bool,
    /// False for a member of the Auto Scaling group that is not `InService`.
    pub in_service: bool,
}

/// All that is asked before anything is decided.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    /// Seconds since 1970, by EC2's clock.
    pub now: u64,
    /// The cluster's instances, terminated ones included while EC2 lists them.
    pub instances: Vec<Instance>,
    /// What each HAProxy host lists, in the order of `[haproxy] servers`, or why it could not be asked;
    /// an answer with a line that cannot be read is none.
    pub listings: Vec<Result<Vec<Listed>, Error>>,
    /// Ids in those listings that EC2, asked by the id, does not know, or calls shutting-down or
    /// terminated although they do not carry the cluster's tag.
    pub unknown: BTreeSet<String>,
    pub gone: BTreeSet<String>,
    /// Ids of [`Survey::unlisted`] machines that pass their health check from here.
    pub healthy: BTreeSet<String>,
    /// This node, at that moment, passes the health check of a machine that is UP.
    pub sees: bool,
}

/// A machine, and how it stands with each HAProxy host.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    pub machine: Machine,
    /// What EC2 says of it, and whether that is that it has ended.
    pub instance: Option<&'a Instance>,
    pub is_gone: bool,
    /// Its line on each HAProxy host.
    pub lines: Vec<Option<&'a Listed>>,
}

impl Member<'_> {
    pub fn is_listed(&self) -> bool {
        self.lines.iter().any(Option::is_some)
    }

    pub fn is(&self, life: Life) -> bool {
        self.instance.is_some_and(|i| i.life == life)
    }

    fn states(&self) -> impl Iterator<Item = State> {
        self.lines.iter().flatten().map(|l| l.state)
    }

    /// One HAProxy has it UP.
    pub fn is_up(&self) -> bool {
        self.states().any(|state| state == State::Up)
    }

    /// A listed machine serves if one HAProxy has it UP, or if none can say.
    pub fn serves(&self) -> bool {
        self.is_up() || (self.is_listed() && self.states().all(|state| state == State::Unknown))
    }

    /// For how long every HAProxy that lists it has had it DOWN, if they all have.
    pub fn down_for(&self) -> Option<Duration> {
        let mut lines = self.lines.iter().flatten().peekable();
        lines.peek()?;
        lines
            .map(|l| (l.state == State::Down).then(|| Duration::from_secs(l.since.unwrap_or(0))))
            .try_fold(Duration::MAX, |least, down| Some(least.min(down?)))
    }

    /// For how long a HAProxy has had it UP, the one that has had it so for longest.
    pub fn up_for(&self) -> Option<Duration> {
        let up = self.lines.iter().flatten().filter(|l| l.state == State::Up);
        up.map(|l| Duration::from_secs(l.since.unwrap_or(0))).max()
    }

    /// Did a HAProxy that lists it see it go DOWN, or come, within this time?
    pub fn went_down_within(&self, time: Duration) -> bool {
        let young = |l: &Listed| l.since.is_none_or(|since| Duration::from_secs(since) < time);
        let mut down = self.lines.iter().flatten().filter(|l| l.state == State::Down);
        down.any(|l| young(l))
    }

    fn is_kept(&self) -> bool {
        self.instance.is_some_and(|i| i.keep)
    }

    /// Does it count: it is neither gone nor taken out by a person?
    pub fn counts(&self) -> bool {
        !self.is_gone && !self.is_kept()
    }

    /// May a plan enter it where it serves?
    pub fn may_enter(&self) -> bool {
        self.counts() && self.instance.is_none_or(|i| i.life == Life::Live && i.in_service)
    }

    /// May it be terminated: is it a live instance of the cluster, which nobody has taken out?
    pub fn may_end(&self) -> bool {
        self.may_enter() && self.instance.is_some()
    }
}

impl Survey {
    /// How long ago EC2 launched it; zero where EC2 does not say.
    pub fn age(&self, instance: &Instance) -> Duration {
        let at = instance.launched_at.unwrap_or(self.now);
        Duration::from_secs(self.now.saturating_sub(at))
    }

    /// All machines: what any HAProxy host lists, and what EC2 has beside that. Ids are compared where
    /// both sides have one, since EC2 gives addresses again.
    pub fn members(&self, default_port: u16) -> Vec<Member<'_>> {
        let mut members: Vec<Member> = Vec::new();
        let add = |members: &mut Vec<Member>, host: &str, port: Option<u16>| {
            members.push(Member {
                machine: Machine {
                    instance: None,
                    host: host.into(),
                    port: port.unwrap_or(default_port),
                },
                instance: None,
                is_gone: false,
                lines: vec![None; self.listings.len()],
            });
            members.len() - 1
        };
        for (at, listing) in self.listings.iter().enumerate() {
            for line in listing.iter().flatten() {
                let is_it = |m: &Member| m.lines[at].is_none() && is_same(&m.machine, line);
                let known = members.iter().position(is_it);
                let known = known.unwrap_or_else(|| add(&mut members, &line.address, line.port));
                let machine = &mut members[known].machine;
                machine.instance = machine.instance.take().or_else(|| line.instance.clone());
                members[known].lines[at] = Some(line);
            }
        }
        for instance in &self.instances {
            let has_id = |m: &Member| m.machine.instance.as_ref() == Some(&instance.id);
            let has_address = |m: &Member| {
                m.machine.instance.is_none() && instance.address.as_ref() == Some(&m.machine.host)
            };
            let known = match members.iter().position(has_id) {
                None if instance.life != Life::Gone => members.iter().position(has_address),
                known => known,
            };
            let address = instance.address.as_deref().unwrap_or_default();
            let known = known.unwrap_or_else(|| add(&mut members, address, None));
            members[known].machine.instance = Some(instance.id.clone());
            members[known].instance = Some(instance);
        }
        for member in &mut members {
            member.is_gone = match (member.instance, &member.machine.instance) {
                (Some(instance), _) => instance.life == Life::Gone,
                (None, id) => id.as_ref().is_some_and(|id| self.gone.contains(id)),
            };
        }
        members
    }

    /// Live machines that no HAProxy host lists: their health is asked for.
    pub fn unlisted(&self, default_port: u16) -> Vec<Machine> {
        let members = self.members(default_port).into_iter();
        members
            .filter(|m| !m.is_listed() && m.is(Life::Live) && !m.machine.host.is_empty())
            .map(|m| m.machine)
            .collect()
    }

    /// Machines that are UP; a node that passes none of their health checks sees nobody.
    pub fn witnesses(&self, myself: Option<&Machine>, default_port: u16) -> Vec<Machine> {
        let mut up: Vec<Machine> = self
            .members(default_port)
            .into_iter()
            .filter(Member::is_up)
            .map(|m| m.machine)
            .collect();
        // This node reaches itself whatever else it does not reach.
        if up.len() > 1
            && let Some(myself) = myself
        {
            up.retain(|m| !is_machine(m, myself));
        }
        up
    }

    /// Could every HAProxy host be asked, and do they know what they say? One that lists nothing while
    /// EC2 shows live machines has no opinion.
    pub fn all_have_opinions(&self) -> bool {
        let live = self.instances.iter().any(|i| i.life == Life::Live);
        self.listings
            .iter()
            .all(|listing| matches!(listing, Ok(lines) if !lines.is_empty() || !live))
    }

    /// Ids that HAProxy hosts list and of which EC2's list says nothing: to be asked for one by one.
    pub fn unlisted_by_ec2(&self) -> BTreeSet<String> {
        let known = |id: &&String| self.instances.iter().any(|i| i.id == **id);
        let lines = self.listings.iter().flatten().flatten();
        let ids = lines.filter_map(|l| l.instance.as_ref());
        ids.filter(|id| !known(id)).cloned().collect()
    }
}

/// Does this line stand for that machine?
fn is_same(machine: &Machine, line: &Listed) -> bool {
    match (&machine.instance, &line.instance) {
        (Some(one), Some(other)) => one == other,
        _ => machine.host == line.address && line.port.is_none_or(|port| port == machine.port),
    }
}

/// Are these one machine?
pub fn is_machine(one: &Machine, other: &Machine) -> bool {
    match (&one.instance, &other.instance) {
        (Some(one), Some(other)) => one == other,
        _ => one.host == other.host,
    }
}
