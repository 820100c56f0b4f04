//! HAProxy's Runtime API (HAProxy Management Guide, "Unix Socket commands"): whether a change goes over
//! it or by a reload, what is sent, and what the answers say.

mod addition;
pub mod balance;
pub mod drift;
pub mod reload;
pub mod replies;
pub mod somebody_stays;
pub mod text;

use std::net::SocketAddr;

use replies::Running;

/// Older ones can't delete a server.
const OLDEST: (u32, u32) = (2, 5);

/// Older ones hide dynamic servers behind `experimental-mode on`.
const NO_EXPERIMENT: (u32, u32) = (2, 6);

/// What begins each line of commands to a HAProxy of `version`.
pub fn preamble(version: (u32, u32)) -> &'static str {
    if version < NO_EXPERIMENT {
        "experimental-mode on; "
    } else {
        ""
    }
}

/// The running servers of one section by their names.
fn running_in<'a>(running: &'a [Running], section: &str) -> impl Iterator<Item = (&'a str, &'a Running)> {
    let of = move |r: &&Running| r.section == section;
    running.iter().filter(of).map(|r| (&*r.name, r))
}

/// Closes the connections that HAProxy keeps open to a server in maintenance, which stand in the
/// way of `del server`: it does so when the address changes.
pub fn drop_idle(server: &Running) -> Option<String> {
    let address = server.address?;
    let other_port = if address.port() == 1 { 2 } else { 1 };
    Some(move_to(&server.id(), SocketAddr::new(address.ip(), other_port)))
}

/// Gives the server `id` another address; answered by what changed, in words that differ by version.
pub fn move_to(id: &str, address: SocketAddr) -> String {
    format!("set server {id} addr {} port {}", address.ip(), address.port())
}
