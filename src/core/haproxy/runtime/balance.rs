//! What a section's `balance` means for servers that come and go.

use super::addition::HASH_KEY;
use super::text::{Section, Server};

/// Takes this section servers at run time?
pub fn takes_dynamic_servers(section: &Section) -> Result<(), String> {
    match algorithm(section) {
        "" | "roundrobin" | "leastconn" | "random" => Ok(()),
        _ if hashes_consistently(section) => Ok(()),
        _ => {
            let balance = section.settings.balance.first().copied().unwrap_or_default();
            Err(format!("`balance {balance}` takes no servers at run time"))
        }
    }
}

fn algorithm<'a>(section: &Section<'a>) -> &'a str {
    let balance = section.settings.balance.first().copied().unwrap_or_default();
    // `random(2)` and `hdr(host)` carry their argument.
    balance.split('(').next().unwrap_or_default()
}

fn hashes_consistently(section: &Section) -> bool {
    let hashes = ["source", "uri", "url_param", "hdr", "hash", "rdp-cookie"];
    section.settings.hash_type.first() == Some(&"consistent") && hashes.contains(&algorithm(section))
}

/// What keeps the requests of one client at one server when servers come and go, for a section that
/// hashes and lacks it.
pub fn advice(section: &Section, version: (u32, u32)) -> Option<String> {
    let keeps = |server: &Server| server.value("id").is_some() || server.value("hash-key").is_some();
    if !hashes_consistently(section) || section.servers.iter().all(keeps) {
        return None;
    }
    let or = match version >= HASH_KEY {
        true => " or `hash-key addr-port`",
        false => "",
    };
    Some(format!(
        "`{}` hashes by the numbers of servers, which change with each that goes; add `id $ID`{or} to server_line",
        section.name
    ))
}
