//! A server line as the commands that add such a server to a running HAProxy.

use super::text::Server;

/// One server to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    pub name: String,
    /// Makes it known, in maintenance.
    pub add: String,
    /// Lets it have traffic; where it is checked, once its check has passed.
    pub start: String,
}

/// Older ones refuse `cookie` on a dynamic server.
const COOKIES: (u32, u32) = (3, 0);

/// Words of a server line that a dynamic server takes just as one of the file does, and whether
/// a value follows.
const SAFE: [(&str, bool); 23] = [
    ("addr", true),
    ("backup", false),
    ("check", false),
    ("check-send-proxy", false),
    ("downinter", true),
    ("error-limit", true),
    ("fall", true),
    ("fastinter", true),
    ("inter", true),
    ("maxconn", true),
    ("maxqueue", true),
    ("minconn", true),
    ("observe", true),
    ("on-error", true),
    ("on-marked-down", true),
    ("pool-low-conn", true),
    ("pool-max-conn", true),
    ("pool-purge-delay", true),
    ("port", true),
    ("rise", true),
    ("send-proxy", false),
    ("slowstart", true),
    ("weight", true),
];

/// Words that mean something for host names alone, each with a value; dynamic servers refuse them.
const FOR_NAMES: [&str; 3] = ["init-addr", "resolvers", "resolve-prefer"];

/// The commands for `server`, sent to a HAProxy of `version`.
///
/// # Errors
/// Why a dynamic server would not be the same.
pub fn addition(server: &Server, backend: &str, version: (u32, u32)) -> Result<Addition, String> {
    let name = server.name;
    let arguments = without_names(&server.arguments);
    let refused = |what: &str| Err(format!("server `{name}` can't be added at run time: {what}"));
    if server.address().is_none() {
        return refused("its address is not a number and a port");
    }
    let words = || [name, server.target].into_iter().chain(arguments.iter().copied());
    // What would be a command of its own, or none at all, on the socket.
    if words().any(|w| w.contains([';', '<', '!'])) {
        return refused("its line has a character that the socket reads otherwise");
    }
    if let Some(word) = unsafe_word(&arguments, version) {
        return refused(&format!("`{word}`"));
    }
    let mut add = format!("add server {backend}/{name} {}", server.target);
    for word in &arguments {
        add = add + " " + word;
    }
    // Without these, 2.6 lets it reuse no connection.
    for (word, value) in [("pool-purge-delay", "5s"), ("pool-max-conn", "-1")] {
        if !arguments.contains(&word) {
            add += &format!(" {word} {value}");
        }
    }
    let id = format!("{backend}/{name}");
    // `health down` counts only once it is ready, and in between, requests on other threads would
    // find it: that is what the weight is for.
    let start = if server.is_checked() {
        format!(
            "enable health {id}; set server {id} weight 0; set server {id} state ready; \
             set server {id} health down; set server {id} weight 100%"
        )
    } else {
        format!("set server {id} state ready")
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
        match SAFE.iter().find(|(safe, _)| *safe == word) {
            Some((_, true)) => drop(words.next()),
            Some((_, false)) => {}
            None if word == "cookie" && version >= COOKIES => drop(words.next()),
            None => return Some(word),
        }
    }
    None
}
