//! A server line as the commands that add such a server to a running HAProxy.

use super::text::{Section, Server};

/// One server to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    pub name: String,
    /// Makes it known, in maintenance.
    pub add: String,
    /// Lets it have traffic; where it is checked, once its check has passed.
    pub start: String,
}

/// From this on, a server that is added gets a number of its own, and a cookie.
const OWN_NUMBERS: (u32, u32) = (3, 0);

/// From this on `hash-key` is known, which keeps the keys of a server where they are.
pub const HASH_KEY: (u32, u32) = (3, 0);

/// The first version that we add servers to.
const FIRST: (u32, u32) = super::OLDEST;

/// Words of a server line that a dynamic server takes just as one of the file does, from which
/// version on, and whether a value follows.
const SAFE: [((u32, u32), bool, &str); 5] = [
    (
        FIRST,
        false,
        "agent-check backup check check-send-proxy send-proxy send-proxy-v2",
    ),
    (
        FIRST,
        true,
        "addr agent-addr agent-inter agent-port agent-send downinter error-limit fall fastinter id inter maxconn \
         maxqueue minconn observe on-error on-marked-down on-marked-up pool-low-conn pool-max-conn \
         pool-purge-delay port rise slowstart weight",
    ),
    ((3, 0), true, "cookie guid"),
    (HASH_KEY, true, "hash-key"),
    ((3, 1), true, "init-state"),
];

/// Words that mean something for host names alone, each with a value; dynamic servers refuse them.
const FOR_NAMES: [&str; 3] = ["init-addr", "resolvers", "resolve-prefer"];

/// The commands for `server` of `section`, sent to a HAProxy of `version`. `number`: one that no
/// other server there has, in case that its line gives none.
///
/// # Errors
/// Why a dynamic server would not be the same.
pub fn addition(
    server: &Server,
    section: &Section,
    version: (u32, u32),
    number: u32,
) -> Result<Addition, String> {
    let name = server.name;
    let arguments = without_names(&server.arguments);
    let refused = |what: &str| Err(format!("server `{name}` can't be added at run time: {what}"));
    if server.address().is_none() {
        return refused("its address is not a number and a port");
    }
    if section.settings.external_check && server.is_checked() {
        return refused("`option external-check`");
    }
    if section.settings.dynamic_cookie && version < OWN_NUMBERS {
        return refused("before HAProxy 3.0 it would get no `cookie … dynamic`");
    }
    let words = || [name, server.target].into_iter().chain(arguments.iter().copied());
    // What would be a command of its own, or none at all, on the socket.
    if words().any(|w| w.contains([';', '<', '!'])) {
        return refused("its line has a character that the socket reads otherwise");
    }
    if let Some(word) = unsafe_word(&arguments, version) {
        return refused(&format!("`{word}`"));
    }
    let id = format!("{}/{name}", section.name);
    let mut add = format!("add server {id} {}", server.target);
    for word in &arguments {
        add = add + " " + word;
    }
    // Else all that are added would share one place, wherever places are made of numbers.
    if version < OWN_NUMBERS && !arguments.contains(&"id") {
        add += &format!(" id {number}");
    }
    // Without these, 2.6 lets it reuse no connection.
    for (word, value) in [("pool-purge-delay", "5s"), ("pool-max-conn", "-1")] {
        if !arguments.contains(&word) {
            add += &format!(" {word} {value}");
        }
    }
    // `health down` counts only once it is ready, and in between, requests on other threads would
    // find it: that is what the weight is for.
    // An agent that does not answer keeps a server of the file from nothing.
    let agent = match arguments.contains(&"agent-check") {
        true => format!("enable agent {id}; set server {id} agent up; "),
        false => String::new(),
    };
    let start = if server.is_checked() {
        format!(
            "enable health {id}; set server {id} weight 0; set server {id} state ready; \
             {agent}set server {id} health down; set server {id} weight 100%"
        )
    } else {
        format!("{agent}set server {id} state ready")
    };
    Ok(Addition {
        name: name.into(),
        add,
        start,
    })
}

/// `arguments` less those that do nothing for a server with a numeric address.
fn without_names<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let mut kept = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match FOR_NAMES.contains(word) {
            true => drop(words.next()),
            false => kept.push(*word),
        }
    }
    kept
}

/// The first of `arguments` that may mean something else for a dynamic server.
fn unsafe_word<'a>(arguments: &[&'a str], version: (u32, u32)) -> Option<&'a str> {
    let mut words = arguments.iter().copied();
    while let Some(word) = words.next() {
        let known = |(_, _, words): &&(_, _, &str)| words.split(' ').any(|safe| safe == word);
        match SAFE.iter().find(known) {
            Some((since, true, _)) if version >= *since => drop(words.next()),
            Some((since, false, _)) if version >= *since => {}
            _ => return Some(word),
        }
    }
    None
}
