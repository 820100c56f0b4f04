//! One survey in, one plan out: what is entered, removed, waited for, launched and terminated, and
//! why. Whoever launched, holds the lease or was told to `LOOK` goes by this and by nothing else.

pub mod replace;
mod survey;
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use crate::core::haproxy::listing::Listed;
pub use crate::core::haproxy::state::State;
use crate::error::Error;
pub use survey::{Instance, Life, Machine, Member, Survey, is_machine};
pub use token::client_token;

/// How long a launch counts for `max_launches_per_day`, in seconds.
const DAY: u64 = 24 * 3600;
/// Terminated instances leave EC2's list after about an hour, and then there may be room again.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);
/// A machine that is DOWN everywhere for so long does not count as there.
pub const DOWN_COUNTS: Duration = Duration::from_secs(60);
/// Where many were DOWN, so much later than the first the last one is back.
const COMES_BACK: Duration = Duration::from_secs(30);
/// Between the two times that EC2 is asked for an id that it does not list.
pub const ASK_AGAIN: Duration = Duration::from_secs(60);

/// The settings that decide.
#[derive(Debug, Clone)]
pub struct Rules {
    /// False where a shell command launches, and EC2 is not asked about anything.
    pub ec2: bool,
    pub boot_timeout: Duration,
    pub cooldown: Duration,
    /// Zero: never.
    pub replace_after: Duration,
    pub max_hosts: usize,
    pub min_hosts: usize,
    /// 0: no limit.
    pub max_launches_per_day: usize,
    /// `[cluster] name` is set: no other cluster's machines carry its tag.
    pub named: bool,
    /// `[machine] port`.
    pub port: u16,
}

impl Rules {
    /// The same, by hand with `--force`: it passes over the cooldown, and over nothing else.
    pub fn forced(self) -> Rules {
        Rules {
            cooldown: Duration::ZERO,
            ..self
        }
    }
}

/// What this node remembers from its surveys before.
#[derive(Debug, Default, Clone)]
pub struct Memory {
    /// For how long EC2, asked by the id, has not known these.
    pub unknown: BTreeMap<String, Duration>,
    /// Whose termination was refused: not tried again for now.
    pub refused: Vec<String>,
}

/// Something to do at one HAProxy host, by its number in the listings. It needs no lease, since twice
/// does no harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fix {
    /// It serves, and this host lacks it.
    Enter(Machine),
    /// Its instance is gone.
    Remove { name: String, id: String },
}

/// A machine to terminate, with the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doomed {
    pub id: String,
    pub why: String,
}

/// Why nothing may be launched, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    pub why: String,
    pub wait: Duration,
    /// There are as many machines as there may be.
    pub full: bool,
}

/// What follows from a survey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub fixes: Vec<(usize, Fix)>,
    /// Ids to ask for once more before their entries go.
    pub ask_again: bool,
    /// One at a time.
    pub terminate: Option<Doomed>,
    /// What is amiss and left alone, for people.
    pub amiss: Vec<String>,
    /// Those on their way, and for how long each still has time to come to serve; the oldest first.
    pub booting: Vec<(Machine, Duration)>,
    /// How many `min_hosts` lacks.
    pub lacking: usize,
    /// How many count for `max_hosts`, and how many more there may be.
    pub hosts: usize,
    pub room: Result<usize, Wait>,
    /// What a launch's ClientToken follows from.
    pub fleet: Vec<String>,
    /// Does the machine that this runs on serve? `None`: no HAProxy host lists it.
    pub i_serve: Option<bool>,
}

/// Decides. `myself`: the machine that this runs on, which no plan of its own ends.
pub fn plan(survey: &Survey, rules: &Rules, memory: &Memory, myself: Option<&Machine>) -> Plan {
    let members = survey.members(rules.port);
    let own = myself.and_then(|me| members.iter().find(|m| is_machine(me, &m.machine)));
    let mut amiss = Vec::new();
    let counted = || members.iter().filter(|m| m.counts());
    let serving = counted().filter(|m| m.serves()).count();
    let booting = booting(survey, rules, &members);
    let restarting = counted().filter(|m| !m.serves() && m.went_down_within(DOWN_COUNTS));
    let there = serving + booting.len() + restarting.count();
    let (fixes, ask_again) = fixes(survey, rules, memory, &members);
    let mut fleet: Vec<String> = survey.instances.iter().map(|i| i.id.clone()).collect();
    fleet.sort();
    let hosts = members.iter().filter(|m| is_there(survey, rules, m)).count();
    Plan {
        fixes,
        ask_again,
        terminate: doomed(survey, rules, memory, &members, myself, &mut amiss),
        amiss,
        booting,
        lacking: rules.min_hosts.saturating_sub(there),
        hosts,
        room: room(survey, rules, hosts),
        fleet,
        i_serve: own.filter(|m| m.is_listed()).map(Member::serves),
    }
}

/// May `myself` leave? Every HAProxy host has its say, and somebody stays.
///
/// # Errors
/// Busy: not now. Of another kind: a HAProxy host could not be asked.
pub fn may_leave(survey: &Survey, rules: &Rules, myself: &Machine) -> Result<(), Error> {
    let not_now = |why: &str| Err(Error::busy("scale-down", why));
    if let Some(error) = survey.listings.iter().find_map(|l| l.as_ref().err()) {
        return Err(error.clone().advise("a departure waits for every HAProxy host"));
    }
    let members = survey.members(rules.port);
    let own = members.iter().filter(|m| is_machine(myself, &m.machine));
    let mut own = own.flat_map(|m| m.lines.iter().flatten());
    if own.any(|line| line.state == State::Maint) {
        return not_now("a person has taken it out in HAProxy, and may look at it there");
    }
    let least = rules.min_hosts.max(1);
    for at in 0..survey.listings.len() {
        let here = || members.iter().filter_map(|m| Some((m, m.lines[at]?.state)));
        // Where HAProxy cannot be asked, entries count.
        let silent = here().all(|(_, state)| state == State::Unknown);
        let (own, others): (Vec<_>, Vec<_>) = here().partition(|(m, _)| is_machine(myself, &m.machine));
        let stays = |(m, state): &&(&Member, State)| m.counts() && (silent || *state == State::Up);
        let others = others.iter().filter(stays).count();
        if !own.is_empty() && others < least {
            return not_now(&format!(
                "{others} others serve, and min_hosts is {}",
                rules.min_hosts
            ));
        }
    }
    Ok(())
}

/// On its way: live, with time to boot, and listed by no HAProxy.
fn is_booting(survey: &Survey, rules: &Rules, member: &Member) -> bool {
    let young = |i: &&Instance| i.life == Life::Live && survey.age(i) < rules.boot_timeout;
    !member.is_listed() && member.instance.as_ref().is_some_and(young)
}

fn booting(survey: &Survey, rules: &Rules, members: &[Member]) -> Vec<(Machine, Duration)> {
    let booting = members
        .iter()
        .filter(|m| m.counts() && is_booting(survey, rules, m));
    let left = |m: &Member| {
        let age = m.instance.map_or(Duration::ZERO, |i| survey.age(i));
        (m.machine.clone(), rules.boot_timeout.saturating_sub(age))
    };
    let mut booting: Vec<(Machine, Duration)> = booting.map(left).collect();
    booting.sort_by_key(|(_, left)| *left);
    booting
}

/// Does it count for `max_hosts`: entries, and what is live beside them? Of a group, who stands by does
/// not.
fn is_there(survey: &Survey, rules: &Rules, member: &Member) -> bool {
    let live = member.is(Life::Live) && (member.may_enter() || is_booting(survey, rules, member));
    member.counts() && (member.is_listed() || live)
}

/// What HAProxy hosts lack and what they list in vain, and whether ids are to be asked for again.
fn fixes(survey: &Survey, rules: &Rules, memory: &Memory, members: &[Member]) -> (Vec<(usize, Fix)>, bool) {
    let answered: Vec<usize> = (0..survey.listings.len())
        .filter(|at| survey.listings[*at].is_ok())
        .collect();
    let is_in = |m: &Member, ids: &BTreeSet<String>| {
        let id = m.machine.instance.as_ref();
        id.is_some_and(|id| ids.contains(id))
    };
    let is_unknown = |m: &Member| is_in(m, &survey.unknown);
    let mut coming: Vec<(usize, &Machine)> = Vec::new();
    for member in members.iter().filter(|m| m.may_enter()) {
        let serves = match member.is_listed() {
            true => member.serves() && !is_unknown(member),
            false => is_in(member, &survey.healthy),
        };
        let lacking = answered
            .iter()
            .filter(|at| serves && member.lines[**at].is_none());
        coming.extend(lacking.map(|at| (*at, &member.machine)));
    }
    let entries = members.iter().filter(|m| m.is_listed()).count();
    let unknown = || members.iter().filter(|m| m.is_listed() && is_unknown(m));
    let few = 2 * unknown().count() < entries;
    let long_unknown = |m: &Member| {
        let id = m.machine.instance.as_ref();
        let asked_for = id.and_then(|id| memory.unknown.get(id));
        let asked_for = asked_for.copied().unwrap_or_default();
        let state_for = m.lines.iter().flatten().filter_map(|l| l.since).max();
        let old = asked_for.max(Duration::from_secs(state_for.unwrap_or(0))) >= rules.boot_timeout;
        asked_for >= ASK_AGAIN && old
    };
    let enter = |(at, machine): &(usize, &Machine)| (*at, Fix::Enter((*machine).clone()));
    let mut fixes: Vec<(usize, Fix)> = coming.iter().map(enter).collect();
    for at in answered {
        let coming = || coming.iter().filter(|(to, _)| *to == at);
        let mut leaving: Vec<&Listed> = Vec::new();
        for member in members {
            let Some(line) = member.lines[at] else { continue };
            let goes = member.is_gone || (is_unknown(member) && few && long_unknown(member));
            // Whoever comes to an entry's address takes its place.
            if goes && !coming().any(|(_, machine)| machine.host == line.address) {
                leaving.push(line);
            }
        }
        // One entry always stays.
        let all = survey.listings[at].as_ref().map_or(0, Vec::len);
        if leaving.len() == all && coming().next().is_none() {
            leaving.pop();
        }
        fixes.extend(leaving.into_iter().map(|line| {
            let (name, id) = (line.name.clone(), line.instance.clone().unwrap_or_default());
            (at, Fix::Remove { name, id })
        }));
    }
    (fixes, few && unknown().any(|m| !long_unknown(m)))
}

/// Which machine is to be terminated, if one is.
fn doomed(
    survey: &Survey,
    rules: &Rules,
    memory: &Memory,
    members: &[Member],
    myself: Option<&Machine>,
    amiss: &mut Vec<String>,
) -> Option<Doomed> {
    let may_end = |m: &&Member| {
        let id = m.machine.instance.as_ref();
        m.may_end()
            && !myself.is_some_and(|me| is_machine(me, &m.machine))
            && !id.is_some_and(|id| memory.refused.contains(id))
    };
    if !survey.all_have_opinions() {
        return None;
    }
    let up = members.iter().filter(|m| m.is_up()).count();
    let unlisted = members.iter().filter(may_end).filter(|m| !m.is_listed());
    for instance in unlisted.filter_map(|m| m.instance) {
        let (id, age) = (&instance.id, survey.age(instance));
        if age < rules.boot_timeout || survey.healthy.contains(id) {
            continue;
        }
        if !rules.named {
            amiss.push(format!(
                "{id} is in no HAProxy and does not serve; [cluster] name is not set, so it may be another \
                 cluster's and is left alone"
            ));
        } else if survey.sees {
            let why = format!("never came to serve in {} s", age.as_secs());
            return Some(Doomed { id: id.clone(), why });
        }
    }
    if rules.replace_after.is_zero() {
        return None;
    }
    let down = members
        .iter()
        .filter(|m| m.counts() && m.down_for().is_some())
        .count();
    let entries = members.iter().filter(|m| m.is_listed()).count();
    // An entry without an id may have been DOWN before this machine came to its address.
    let long_down = |m: &&Member| {
        let old = |i: &Instance| survey.age(i) >= rules.replace_after;
        m.down_for().is_some_and(|down| down >= rules.replace_after) && m.instance.is_some_and(old)
    };
    let sick = members.iter().filter(may_end).find(long_down)?;
    let time = sick.down_for().unwrap_or_default();
    // Of those that were DOWN with it, one comes back before the others.
    let just_back = |m: &&Member| {
        let was_there = m.instance.is_none_or(|i| survey.age(i) >= time);
        m.counts() && was_there && m.up_for().is_some_and(|up| up < COMES_BACK.min(time))
    };
    let down = down + members.iter().filter(just_back).count();
    if up == 0 || (down >= 2 && 2 * down >= entries) {
        amiss.push(format!(
            "{down} of {entries} machines are DOWN, or were a moment ago: the fault is elsewhere, and none is replaced"
        ));
        return None;
    }
    let why = format!("DOWN in every HAProxy for {} s", time.as_secs());
    let id = sick.machine.instance.clone()?;
    Some(Doomed { id, why })
}

/// How many more machines there may be, `counted` being there.
fn room(survey: &Survey, rules: &Rules, counted: usize) -> Result<usize, Wait> {
    let known_age = |i: &Instance| i.launched_at.map(|_| survey.age(i));
    if let Some(newest) = survey.instances.iter().filter_map(known_age).min()
        && newest < rules.cooldown
    {
        return Err(Wait {
            why: format!(
                "EC2 reports a launch {} s ago, within the cooldown",
                newest.as_secs()
            ),
            wait: rules.cooldown - newest,
            full: false,
        });
    }
    let hosts = rules.max_hosts.saturating_sub(counted);
    if hosts == 0 {
        return Err(Wait {
            why: format!(
                "there are {counted} machines, and max_hosts is {}",
                rules.max_hosts
            ),
            wait: rules.cooldown.max(Duration::from_secs(30)),
            full: true,
        });
    }
    let most = rules.max_launches_per_day;
    if most == 0 {
        return Ok(hosts);
    }
    let since = survey.now.saturating_sub(DAY);
    let mut launches: Vec<u64> = survey.instances.iter().filter_map(|i| i.launched_at).collect();
    launches.retain(|at| *at > since);
    launches.sort_unstable();
    match launches.len().checked_sub(most) {
        Some(over) => Err(Wait {
            why: format!(
                "EC2 reports {} launches in 24 hours, and max_launches_per_day is {most}",
                launches.len()
            ),
            wait: Duration::from_secs(launches[over] - since).min(LOOK_AGAIN),
            full: true,
        }),
        None => Ok(hosts.min(most - launches.len())),
    }
}

#[cfg(test)]
mod tests;
