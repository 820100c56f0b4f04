//! `add-host`: one more entry in `hosts.d`.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::config::Config;
use crate::error::Error;
use crate::system::hosts_dir::{Added, HostsDir};
use crate::system::log::Log;

pub fn run(
    config: &Config,
    host: &str,
    port: u16,
    name: Option<&str>,
    instance: Option<&str>,
    log: Log,
) -> Result<(), Error> {
    let address = resolve(host)?;
    let hosts = HostsDir::new(config.dir());
    log.event(&match hosts.add(address, port, name, instance)? {
        Added::Now(name) => format!("{name}: entered, {}", SocketAddr::new(address, port)),
        Added::Before(name) => format!("{name}: has this address and port already"),
    });
    Ok(())
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
