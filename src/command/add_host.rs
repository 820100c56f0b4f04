//! `add-host`: one more entry in `hosts.d`.

use std::fs;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use super::drain::Server;
use super::generate;
use crate::cli::AddHost;
use crate::config::Config;
use crate::core::haproxy::entering::Entering;
use crate::core::haproxy::entry::Entry;
use crate::core::haproxy::ssh_gate::By;
use crate::error::Error;
use crate::system::files;
use crate::system::hosts_dir::{Added, HostsDir};
use crate::system::log::Log;

pub fn run(config: &Config, asked: &AddHost, by: By, log: Log) -> Result<(), Error> {
    let instance = asked.instance.as_deref();
    let machine = Entering {
        address: resolve(&asked.host)?,
        port: asked.port,
        instance,
    };
    let hosts = HostsDir::new(config.dir());
    if asked.unless_removed
        && let Some(ago) = hosts.removed_ago(machine)
        && ago < config.machine.boot_timeout
    {
        let cause = format!(
            "was removed here {} s ago, and is not entered again so soon",
            ago.as_secs()
        );
        return Err(Error::busy(instance.unwrap_or(&asked.host), cause));
    }
    let place = SocketAddr::new(machine.address, machine.port);
    let limit = by.most_entries(config.scaling.max_hosts);
    match hosts.add(machine, asked.name.as_deref(), limit)? {
        Added::Now(name) => log.event(&format!("{name}: entered, {place}")),
        Added::Before(name) => {
            log.event(&format!("{name}: has this address and port already"));
            if let Ok(entry) = hosts.entry(&name) {
                put_back(config, &entry, log);
            }
        }
        Added::Instead(name, old) => {
            // One that has only learnt its id is the machine that it was.
            for old in old.iter().filter(|old| old.instance().is_some()) {
                forget_key(config, &old.name)?;
            }
            let old: Vec<String> = old.iter().map(Entry::listing).collect();
            log.event(&format!(
                "{name}: entered, {place}, instead of {}",
                old.join(", ")
            ));
        }
    }
    match asked.apply {
        true => generate::apply(config, log),
        false => Ok(()),
    }
}

/// Ends a drain that `remove-host` has set, and none that a person has.
fn put_back(config: &Config, entry: &Entry, log: Log) {
    if Server::of(config, entry, false, log).undo() {
        log.event(&format!("{}: takes requests again", entry.name));
    }
}

/// Has the master take the ssh host key of the machine behind the entry `name` anew: it is another
/// machine now.
fn forget_key(config: &Config, name: &str) -> Result<(), Error> {
    let path = config.master.known_hosts().join(name);
    files::if_there(&path, fs::remove_file(&path)).map(drop)
}

/// The address of `host`, which may be one itself.
///
/// HAProxy refuses a configuration with a name that it can't resolve, so only addresses are
/// written.
pub fn resolve(host: &str) -> Result<IpAddr, Error> {
    let bare = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return match address.is_unspecified() || address.is_multicast() {
            true => Err(Error::usage(
                "host",
                format!("{address} is not the address of one machine"),
            )),
            false => Ok(address),
        };
    }
    let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let looks_like_a_name = host.len() <= 253
        && !host.starts_with('-')
        && host.trim_end_matches('.').split('.').all(label)
        && host.bytes().any(|b| b.is_ascii_alphabetic());
    if !looks_like_a_name {
        let shown = host.escape_default();
        return Err(Error::usage(
            "host",
            format!("`{shown}` is neither a host name nor an IP address"),
        ));
    }
    let mut addresses = (host, 0)
        .to_socket_addrs()
        .map_err(|e| Error::unavailable(host, e))?;
    match addresses.next() {
        Some(address) => Ok(address.ip()),
        None => Err(Error::unavailable(host, "has no address")),
    }
}
