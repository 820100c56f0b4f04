//! What the holder of the lease does next, out of what EC2 and the HAProxy hosts report.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::auth::hex;
pub use super::listing::Listed;
use super::node::Machine;

/// One EC2 instance that carries the cluster's tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub id: String,
    /// `pending` or `running`.
    pub live: bool,
    /// `shutting-down` or `terminated`.
    pub gone: bool,
    /// Its private address, once it has one.
    pub address: Option<String>,
    /// Seconds since 1970, by EC2's clock.
    pub launched_at: u64,
}

/// All that was asked before a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Seconds since 1970, by EC2's clock.
    pub now: u64,
    /// The cluster's instances, terminated ones included while EC2 lists them.
    pub instances: Vec<Instance>,
    /// What each HAProxy host lists, in the order of `[haproxy] servers`; `None` for one that could
    /// not be asked. Empty when there is no live instance to look for.
    pub listings: Vec<Option<Vec<Listed>>>,
}

/// How long a launch counts for `max_launches_per_day`, in seconds.
const DAY: u64 = 24 * 3600;
/// Terminated instances leave EC2's list after about an hour, and then there may be room again.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// The settings that decide.
#[derive(Debug, Clone)]
pub struct Rules {
    pub boot_timeout: Duration,
    pub cooldown: Duration,
    pub max_hosts: usize,
    pub min_hosts: usize,
    /// 0: no limit.
    pub max_launches_per_day: usize,
    /// An Auto Scaling group launches, also on its own: an old orphan may just be one that nobody
    /// has entered.
    pub by_group: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Launch a machine. `fleet` is what its ClientToken follows from.
    Launch { fleet: Vec<String> },
    /// Somebody launched this one and did not get to the end: wait for it and enter it.
    Adopt {
        instance: Instance,
        boot_time_left: Duration,
    },
    /// These never came into service: terminate them, then survey again.
    Clear { ids: Vec<String> },
    /// Not now: why, and for how long.
    Wait { why: String, wait: Duration },
}

impl Listed {
    /// Does it stand for this instance?
    pub fn is(&self, instance: &Instance) -> bool {
        self.instance.as_ref() == Some(&instance.id) || instance.address.as_ref() == Some(&self.address)
    }
}

/// The live instances that no HAProxy host lists, of those that could be asked.
fn orphans(survey: &Survey) -> impl Iterator<Item = &Instance> {
    let listed = |i: &Instance| survey.listings.iter().flatten().flatten().any(|l| l.is(i));
    survey.instances.iter().filter(move |i| i.live && !listed(i))
}

fn age(instance: &Instance, survey: &Survey) -> Duration {
    Duration::from_secs(survey.now.saturating_sub(instance.launched_at))
}

/// The instances to terminate because they never came into service, or left it half way: orphans
/// that had their time to boot. None while a HAProxy host could not be asked: not seen is not the
/// same as not there.
pub fn leftovers(survey: &Survey, rules: &Rules) -> Vec<String> {
    if survey.listings.iter().any(Option::is_none) {
        return Vec::new();
    }
    let old = orphans(survey).filter(|i| age(i, survey) >= rules.boot_timeout);
    old.map(|i| i.id.clone()).collect()
}

/// Would there be too few without `leaving`? Every HAProxy host that could be asked has its say: a
/// node may have seen the master of another one only, and `hosts.d` lists machines that are gone.
pub fn is_needed(leaving: &Machine, survey: &Survey, rules: &Rules) -> bool {
    let gone = |l: &&Listed| {
        survey
            .instances
            .iter()
            .any(|i| i.gone && l.instance.as_ref() == Some(&i.id))
    };
    let is_it = |l: &Listed| {
        (leaving.instance.is_some() && l.instance == leaving.instance) || l.address == leaving.host
    };
    let few = |listing: &Vec<Listed>| {
        listing.iter().any(is_it) && listing.iter().filter(|l| !gone(l)).count() <= rules.min_hosts
    };
    survey.listings.iter().flatten().any(few)
}

/// Decides on a launch. Adopting comes first, since that machine answers the need without another
/// one.
pub fn plan(survey: &Survey, rules: &Rules) -> Plan {
    let time_left = |i: &Instance| {
        rules
            .boot_timeout
            .checked_sub(age(i, survey))
            .filter(|t| !t.is_zero())
    };
    let any_age = rules.by_group && survey.listings.iter().all(Option::is_some);
    if let Some(orphan) = orphans(survey).find(|i| any_age || time_left(i).is_some()) {
        return Plan::Adopt {
            instance: orphan.clone(),
            // An old one serves, or will not.
            boot_time_left: time_left(orphan).unwrap_or(rules.boot_timeout / 10),
        };
    }
    let ids = leftovers(survey, rules);
    if !ids.is_empty() {
        return Plan::Clear { ids };
    }
    if let Some(newest) = survey.instances.iter().map(|i| age(i, survey)).min()
        && newest < rules.cooldown
    {
        return Plan::Wait {
            why: format!(
                "EC2 reports a launch {} s ago, within the cooldown",
                newest.as_secs()
            ),
            wait: rules.cooldown - newest,
        };
    }
    let live = survey.instances.iter().filter(|i| i.live).count();
    if live >= rules.max_hosts {
        return Plan::Wait {
            why: format!(
                "EC2 reports {live} instances of this cluster, and max_hosts is {}",
                rules.max_hosts
            ),
            wait: rules.cooldown.max(Duration::from_secs(30)),
        };
    }
    let since = survey.now.saturating_sub(DAY);
    let mut launches: Vec<u64> = survey.instances.iter().map(|i| i.launched_at).collect();
    launches.retain(|at| *at > since);
    launches.sort_unstable();
    let most = rules.max_launches_per_day;
    if most > 0
        && let Some(over) = launches.len().checked_sub(most)
    {
        return Plan::Wait {
            why: format!(
                "EC2 reports {} launches in 24 hours, and max_launches_per_day is {most}",
                launches.len()
            ),
            wait: Duration::from_secs(launches[over] - since).min(LOOK_AGAIN),
        };
    }
    let mut fleet: Vec<String> = survey.instances.iter().map(|i| i.id.clone()).collect();
    fleet.sort();
    Plan::Launch { fleet }
}

/// 64 hex digits that follow from the cluster, its fleet and the attempt (at a subnet, with a type)
/// alone. `round` counts the tokens before it whose instance is terminated.
pub fn client_token(
    cluster: &str,
    fleet: &[String],
    subnet: Option<&str>,
    instance_type: Option<&str>,
    round: u32,
) -> String {
    let text = format!(
        "autoscaler {cluster}\n{}\n{} {}\n{round}",
        fleet.join(" "),
        subnet.unwrap_or("-"),
        instance_type.unwrap_or("-")
    );
    hex(&Sha256::digest(text))
}

/// Something that one HAProxy host missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fix {
    Add { machine: Machine },
    Remove { name: String },
}

/// What the HAProxy hosts, by their number in the listings, missed: live instances that another
/// one lists, and entries whose instance is gone. Where that would be more than half of a host's
/// entries, something else is wrong, and nothing is removed there.
pub fn repairs(survey: &Survey) -> Vec<(usize, Fix)> {
    let mut fixes = Vec::new();
    let asked = || {
        survey
            .listings
            .iter()
            .enumerate()
            .filter_map(|(at, l)| l.as_ref().map(|l| (at, l)))
    };
    for instance in survey.instances.iter().filter(|i| i.live) {
        let Some(seen) = asked().flat_map(|(_, l)| l).find(|l| l.is(instance)) else {
            continue;
        };
        let Some(port) = seen.port else { continue };
        let machine = Machine {
            instance: Some(instance.id.clone()),
            host: seen.address.clone(),
            port,
        };
        for (at, listing) in asked() {
            if !listing.iter().any(|l| l.is(instance)) {
                fixes.push((
                    at,
                    Fix::Add {
                        machine: machine.clone(),
                    },
                ));
            }
        }
    }
    let is_gone = |l: &&Listed| {
        survey
            .instances
            .iter()
            .any(|i| i.gone && l.instance.as_ref() == Some(&i.id))
    };
    for (at, listing) in asked() {
        let gone: Vec<&Listed> = listing.iter().filter(is_gone).collect();
        if 2 * gone.len() <= listing.len() {
            fixes.extend(gone.iter().map(|l| (at, Fix::Remove { name: l.name.clone() })));
        }
    }
    fixes
}

#[cfg(test)]
mod tests;
