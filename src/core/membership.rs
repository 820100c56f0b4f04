//! EC2's word on the machines against a HAProxy host's.

use std::time::Duration;

use super::fleet::{Instance, Listed};

/// What EC2 says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cloud {
    /// The cluster's instances, terminated ones included while EC2 lists them.
    pub instances: Vec<Instance>,
    /// Other ids that were asked for by themselves, and that EC2 does not know or says to be
    /// terminated.
    pub gone: Vec<String>,
}

impl Cloud {
    /// Those of `ids` of which the cluster's instances tell nothing.
    pub fn unlisted(&self, ids: &[&str]) -> Vec<String> {
        let mut unlisted: Vec<String> = Vec::new();
        for id in ids {
            let known = self.instances.iter().any(|i| i.id == *id) || unlisted.iter().any(|u| u == id);
            if !known {
                unlisted.push((*id).into());
            }
        }
        unlisted
    }

    /// Has the instance `id` ended?
    pub fn has_ended(&self, id: &str) -> bool {
        match self.instances.iter().find(|i| i.id == id) {
            Some(instance) => instance.gone,
            None => self.gone.iter().any(|gone| gone == id),
        }
    }
}

/// One difference between EC2's instances and a HAProxy host's entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// A live instance that the host does not list; `booting`: it still has time to come up.
    Missing {
        id: String,
        address: Option<String>,
        booting: bool,
    },
    /// An entry whose instance is gone.
    Gone { name: String, id: String },
}

/// Compares. `now` is seconds since 1970, by EC2's clock.
pub fn differences(cloud: &Cloud, listing: &[Listed], now: u64, boot_timeout: Duration) -> Vec<Difference> {
    let mut found = Vec::new();
    for instance in &cloud.instances {
        if instance.live && !listing.iter().any(|l| l.is(instance)) {
            found.push(Difference::Missing {
                id: instance.id.clone(),
                address: instance.address.clone(),
                booting: now.saturating_sub(instance.launched_at) < boot_timeout.as_secs(),
            });
        }
    }
    for listed in listing {
        if let Some(id) = &listed.instance
            && cloud.has_ended(id)
        {
            let (name, id) = (listed.name.clone(), id.clone());
            found.push(Difference::Gone { name, id });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str, live: bool) -> Instance {
        Instance {
            id: id.into(),
            live,
            gone: !live,
            address: Some(format!("10.0.0.{}", &id[2..])),
            launched_at: 1000,
        }
    }

    fn listing(text: &str) -> Vec<Listed> {
        text.lines().filter_map(Listed::parse).collect()
    }

    #[test]
    fn what_is_missing_and_what_is_gone() {
        let cloud = Cloud {
            instances: vec![
                instance("i-1", true),
                instance("i-2", false),
                instance("i-3", true),
            ],
            gone: vec!["i-8".into()],
        };
        let listed = listing(
            "own 10.0.0.7 80 -\na 10.0.0.1 80 -\nb 10.0.0.2 80 i-2\nc 10.0.0.8 80 i-8\nd 10.0.0.9 80 i-9",
        );
        let boot = Duration::from_secs(300);
        let missing = |booting| Difference::Missing {
            id: "i-3".into(),
            address: Some("10.0.0.3".into()),
            booting,
        };
        let gone = |name: &str, id: &str| Difference::Gone {
            name: name.into(),
            id: id.into(),
        };
        let ended = [gone("b", "i-2"), gone("c", "i-8")];
        assert_eq!(
            differences(&cloud, &listed, 2000, boot),
            [vec![missing(false)], ended.to_vec()].concat()
        );
        assert_eq!(differences(&cloud, &listed, 1299, boot)[0], missing(true));
        assert_eq!(cloud.unlisted(&["i-9", "i-1", "i-9", "i-8"]), ["i-9", "i-8"]);
    }

    #[test]
    fn the_listing_goes_before_a_single_answer() {
        let cloud = Cloud {
            instances: vec![instance("i-1", true)],
            gone: vec!["i-1".into()],
        };
        assert!(!cloud.has_ended("i-1"));
    }
}
