//! What the holder of the lease does next, out of what EC2 and the HAProxy hosts report.

use std::time::Duration;

/// One EC2 instance that carries the cluster's tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub id: String,
    /// `pending` or `running`.
    pub live: bool,
    /// Its private address, once it has one.
    pub address: Option<String>,
    /// Seconds since 1970, by EC2's clock.
    pub launched_at: u64,
}

/// One line of a HAProxy host's `list-hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub address: String,
    pub instance: Option<String>,
}

impl Listed {
    /// Reads `<name> <address> <port> <instance or ->`; `None` for anything else.
    pub fn parse(line: &str) -> Option<Listed> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [name, address, _port, instance] = words[..] else {
            return None;
        };
        Some(Listed {
            name: name.into(),
            address: address.into(),
            instance: Some(instance).filter(|i| *i != "-").map(String::from),
        })
    }

    fn is(&self, instance: &Instance) -> bool {
        self.instance.as_ref() == Some(&instance.id) || instance.address.as_ref() == Some(&self.address)
    }
}

/// All that was asked before a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Seconds since 1970, by EC2's clock.
    pub now: u64,
    /// The cluster's instances, terminated ones included while EC2 lists them.
    pub instances: Vec<Instance>,
    /// What each HAProxy host lists; `None` for one that could not be asked. Empty when there is
    /// no live instance to look for.
    pub listings: Vec<Option<Vec<Listed>>>,
}

/// The settings that decide.
#[derive(Debug, Clone)]
pub struct Rules {
    pub boot_timeout: Duration,
    pub cooldown: Duration,
    pub max_hosts: usize,
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

/// Decides. Adopting comes first, since that machine answers the need without another one.
pub fn plan(survey: &Survey, rules: &Rules) -> Plan {
    let age = |i: &Instance| Duration::from_secs(survey.now.saturating_sub(i.launched_at));
    let orphans: Vec<&Instance> = survey
        .instances
        .iter()
        .filter(|i| i.live && !survey.listings.iter().flatten().flatten().any(|l| l.is(i)))
        .collect();
    if let Some(young) = orphans.iter().find(|i| age(i) < rules.boot_timeout) {
        return Plan::Adopt {
            instance: (*young).clone(),
            boot_time_left: rules.boot_timeout - age(young),
        };
    }
    // Not seen is not the same as not there: a HAProxy that could not be asked may list it.
    if !orphans.is_empty() && survey.listings.iter().all(Option::is_some) {
        return Plan::Clear {
            ids: orphans.iter().map(|i| i.id.clone()).collect(),
        };
    }
    if let Some(newest) = survey.instances.iter().map(age).min()
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
    let mut fleet: Vec<String> = survey.instances.iter().map(|i| i.id.clone()).collect();
    fleet.sort();
    Plan::Launch { fleet }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    fn rules() -> Rules {
        Rules {
            boot_timeout: Duration::from_secs(300),
            cooldown: Duration::from_secs(120),
            max_hosts: 3,
        }
    }

    fn instance(id: &str, live: bool, age: u64) -> Instance {
        Instance {
            id: id.into(),
            live,
            address: Some(format!("10.0.0.{}", &id[2..])),
            launched_at: NOW - age,
        }
    }

    fn survey(instances: &[Instance], listings: &[Option<&str>]) -> Survey {
        Survey {
            now: NOW,
            instances: instances.to_vec(),
            listings: listings
                .iter()
                .map(|l| l.map(|text| text.lines().filter_map(Listed::parse).collect()))
                .collect(),
        }
    }

    #[test]
    fn an_empty_fleet_launches() {
        assert_eq!(plan(&survey(&[], &[]), &rules()), Plan::Launch { fleet: vec![] });
    }

    #[test]
    fn the_fleet_is_sorted_and_counts_the_terminated() {
        let s = survey(
            &[instance("i-2", false, 900), instance("i-1", true, 900)],
            &[Some("x 10.0.0.1 80 -")],
        );
        assert_eq!(
            plan(&s, &rules()),
            Plan::Launch {
                fleet: vec!["i-1".into(), "i-2".into()]
            }
        );
    }

    #[test]
    fn a_young_orphan_is_adopted_even_when_a_haproxy_could_not_be_asked() {
        let orphan = instance("i-1", true, 100);
        let adopt = Plan::Adopt {
            instance: orphan.clone(),
            boot_time_left: Duration::from_secs(200),
        };
        assert_eq!(
            plan(&survey(&[orphan.clone()], &[Some(""), None]), &rules()),
            adopt
        );
        assert_eq!(plan(&survey(&[orphan], &[None]), &rules()), adopt);
    }

    #[test]
    fn an_old_orphan_is_terminated_only_when_every_haproxy_was_asked() {
        let orphan = instance("i-1", true, 300);
        let clear = Plan::Clear {
            ids: vec!["i-1".into()],
        };
        assert_eq!(
            plan(&survey(&[orphan.clone()], &[Some(""), Some("")]), &rules()),
            clear
        );
        let unseen = plan(&survey(&[orphan.clone()], &[Some(""), None]), &rules());
        assert_eq!(
            unseen,
            Plan::Launch {
                fleet: vec!["i-1".into()]
            }
        );
        let listed_on_one = plan(
            &survey(&[orphan], &[Some(""), Some("n 10.9.9.9 80 i-1")]),
            &rules(),
        );
        assert_eq!(
            listed_on_one,
            Plan::Launch {
                fleet: vec!["i-1".into()]
            }
        );
    }

    #[test]
    fn the_newest_launch_is_a_cooldown() {
        let s = survey(&[instance("i-1", false, 20)], &[]);
        assert!(matches!(plan(&s, &rules()), Plan::Wait { wait, .. } if wait == Duration::from_secs(100)));
        let listed = survey(&[instance("i-1", true, 20)], &[Some("n 10.0.0.1 80 i-1")]);
        assert!(matches!(plan(&listed, &rules()), Plan::Wait { .. }));
    }

    #[test]
    fn never_over_max_hosts() {
        let instances: Vec<Instance> = (1..=3).map(|n| instance(&format!("i-{n}"), true, 900)).collect();
        let listing = "a 10.0.0.1 80 -\nb 10.0.0.2 80 -\nc 10.0.0.3 80 -";
        assert!(matches!(
            plan(&survey(&instances, &[Some(listing)]), &rules()),
            Plan::Wait { .. }
        ));
    }

    #[test]
    fn a_listing_line_reads() {
        assert_eq!(Listed::parse("a 10.0.0.1 80 -").unwrap().instance, None);
        assert_eq!(Listed::parse("a 10.0.0.1 80"), None);
    }
}
