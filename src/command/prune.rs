//! `prune`: entries out of `hosts.d` whose instance EC2 says is gone.

use std::thread;
use std::time::Duration;

use super::{entries, generate, print};
use crate::cli::Prune;
use crate::config::Config;
use crate::core::entry::Entry;
use crate::core::membership::Cloud;
use crate::core::prune::{self, Plan, Refusal};
use crate::error::Error;
use crate::system::hosts_dir::HostsDir;
use crate::system::log::Log;
use crate::worker::cloud::{self, EC2_TIME};

/// What EC2 does not know is asked for once more after this: EC2 answers from several places, and
/// they learn of an instance one after the other.
const SECOND_LOOK: Duration = Duration::from_secs(3);

pub fn run(config: &Config, asked: Prune, log: Log) -> Result<(), Error> {
    if asked.apply {
        generate::can_apply(config)?;
    }
    let hosts = HostsDir::new(config.dir());
    let entries = entries(&hosts, log)?;
    let cloud = match entries.iter().any(|e| e.instance().is_some()) {
        true => ask(config, &entries, log)?,
        false => Cloud::default(),
    };
    let decide = |entries: &[Entry]| {
        prune::plan(entries, &cloud, asked.force).map_err(|refusal| refused(config, refusal))
    };
    if asked.dry_run {
        let plan = decide(&entries)?;
        return print(&plan.remove.iter().map(|e| e.listing() + "\n").collect::<String>());
    }
    let plan = remove(&hosts, decide, log)?;
    if asked.apply {
        generate::apply(config, log)?;
    }
    match plan.spared {
        None => Ok(()),
        Some(last) => Err(Error::busy(
            last.name,
            "its instance is gone too, but it is the last entry, and HAProxy would have nobody left to answer; \
             add another first",
        )),
    }
}

/// The cluster's instances, and word on those of `entries` that are not among them.
fn ask(config: &Config, entries: &[Entry], log: Log) -> Result<Cloud, Error> {
    let client = cloud::observer(config, log)?;
    let mut cloud = Cloud {
        instances: cloud::instances(&client, &config.cluster.name, EC2_TIME)?,
        ..Cloud::default()
    };
    let entered: Vec<&str> = entries.iter().filter_map(Entry::instance).collect();
    let unlisted = cloud.unlisted(&entered);
    let mut gone = cloud::gone(&client, unlisted, EC2_TIME)?;
    // Without any instance in the listing, nothing is removed anyway.
    if !gone.is_empty() && !cloud.instances.is_empty() {
        thread::sleep(SECOND_LOOK);
        gone = cloud::gone(&client, gone, EC2_TIME)?;
    }
    cloud.gone = gone;
    Ok(cloud)
}

/// Removes what is decided on for the entries as they are now: EC2 took its time to answer.
fn remove(
    hosts: &HostsDir,
    decide: impl Fn(&[Entry]) -> Result<Plan, Error>,
    log: Log,
) -> Result<Plan, Error> {
    let _lock = hosts.lock()?;
    let plan = decide(&hosts.read()?.entries)?;
    for entry in &plan.remove {
        hosts.remove(&entry.name)?;
        let id = entry.instance().unwrap_or_default();
        log.event(&format!("{}: removed, its instance {id} is gone", entry.name));
    }
    Ok(plan)
}

fn refused(config: &Config, refusal: Refusal) -> Error {
    let hosts = HostsDir::new(config.dir()).path();
    let cause = match refusal {
        Refusal::NoInstances => format!(
            "nothing removed: EC2 lists no instance of the cluster `{}` at all; see to [aws], the Region and \
             [cluster] name, or use remove-host",
            config.cluster.name
        ),
        Refusal::Many { names } => format!(
            "nothing removed: EC2 says that the instances of more than half of the entries are gone: {}; if they \
             are, run prune --force",
            names.join(", ")
        ),
    };
    Error::busy(hosts.display(), cause)
}
