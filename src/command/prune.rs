//! `prune`: entries out of `hosts.d` whose instance EC2 says is gone, for sites without daemons. With
//! them, every look does so, by the same plan.

use std::thread;
use std::time::Duration;

use super::{entries, generate, print};
use crate::cli::Prune;
use crate::config::Config;
use crate::core::haproxy::entry::Entry;
use crate::core::plan::{Listed, Survey};
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
    let all = entries(&hosts, log)?;
    let survey = match all.iter().any(|e| e.instance().is_some()) {
        true => ask(config, &all, log)?,
        false => Survey::default(),
    };
    if asked.dry_run {
        let gone = decide(config, &survey, &all, asked.force)?;
        return print(&gone.iter().map(|e| e.listing() + "\n").collect::<String>());
    }
    let spared = remove(config, &hosts, &survey, asked.force, log)?;
    if asked.apply {
        generate::apply(config, log)?;
    }
    match spared {
        None => Ok(()),
        Some(last) => Err(Error::busy(
            last.name,
            "its instance is gone too, but it is the last entry, and HAProxy would have nobody left to answer; \
             add another first",
        )),
    }
}

/// The cluster's instances, and word on those of `entries` that are not among them.
fn ask(config: &Config, entries: &[Entry], log: Log) -> Result<Survey, Error> {
    let client = cloud::observer(config, log)?;
    let instances = cloud::instances(&client, &config.cluster.name, EC2_TIME)?;
    let mut survey = cloud::survey(&client, instances, listing(entries), EC2_TIME)?;
    // Without any instance in the listing, nothing is removed anyway.
    if !survey.unknown.is_empty() && !survey.instances.is_empty() {
        thread::sleep(SECOND_LOOK);
        let ids = survey.unknown.iter().cloned().collect();
        let (unknown, gone) = cloud::whereabouts(&client, ids, EC2_TIME)?;
        survey.unknown = unknown;
        survey.gone.extend(gone);
    }
    Ok(survey)
}

/// The entries as `list-hosts` tells of them.
pub fn listing(entries: &[Entry]) -> Vec<Listed> {
    let lines = entries.iter().filter_map(|e| Listed::parse(&e.listing()));
    lines.collect()
}

/// Those whose instance is gone.
///
/// # Errors
/// What makes EC2's answer doubtful.
fn decide(config: &Config, survey: &Survey, entries: &[Entry], force: bool) -> Result<Vec<Entry>, Error> {
    let survey = Survey {
        listings: vec![Ok(listing(entries))],
        ..survey.clone()
    };
    let suspects = survey.members(config.machine.port).into_iter().filter(|m| {
        let unknown = |id: &String| survey.unknown.contains(id);
        m.is_listed() && (m.is_gone || m.machine.instance.as_ref().is_some_and(unknown))
    });
    let suspects: Vec<String> = suspects.filter_map(|m| m.machine.instance).collect();
    let is_suspect = |e: &&Entry| suspects.iter().any(|id| e.instance() == Some(id));
    let suspected: Vec<&Entry> = entries.iter().filter(is_suspect).collect();
    if suspected.is_empty() {
        return Ok(Vec::new());
    }
    let path = HostsDir::new(config.dir()).path();
    if survey.instances.is_empty() {
        let cause = format!(
            "nothing removed: EC2 lists no instance of the cluster `{}` at all; see to [aws], the Region and \
             [cluster] name, or use remove-host",
            config.cluster.name
        );
        return Err(Error::busy(path.display(), cause));
    }
    if 2 * suspected.len() > entries.len() && !force {
        let names: Vec<&str> = suspected.iter().map(|e| e.name.as_str()).collect();
        let cause = format!(
            "nothing removed: EC2 says that the instances of more than half of the entries are gone: {}; if they \
             are, run prune --force",
            names.join(", ")
        );
        return Err(Error::busy(path.display(), cause));
    }
    Ok(suspected.into_iter().cloned().collect())
}

/// Removes what is decided on for the entries as they are now, since EC2 took its time to answer; one
/// always stays. Returns the one that was spared for that.
fn remove(
    config: &Config,
    hosts: &HostsDir,
    survey: &Survey,
    force: bool,
    log: Log,
) -> Result<Option<Entry>, Error> {
    let _lock = hosts.lock()?;
    let all = hosts.read()?.entries;
    let mut gone = decide(config, survey, &all, force)?;
    let spared = match gone.len() == all.len() {
        true => gone.pop(),
        false => None,
    };
    for entry in &gone {
        hosts.remove(&entry.name)?;
        let id = entry.instance().unwrap_or_default();
        log.event(&format!("{}: removed, its instance {id} is gone", entry.name));
    }
    Ok(spared)
}
