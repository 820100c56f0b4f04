//! The side of a HAProxy host.

use std::collections::BTreeSet;

use super::findings::Finding;
use super::{Check, Part, cloud};
use crate::command::{generate, master, prune, status, template};
use crate::config::Config;
use crate::core::haproxy::runtime::text::{self, Section};
use crate::core::haproxy::runtime::{balance, drift};
use crate::core::protocol::facts::Fact;
use crate::error::Error;
use crate::system::due::DueFile;
use crate::system::haproxy_socket::HaproxySocket;
use crate::system::hosts_dir::{HostsDir, Listing};
use crate::system::lines::SILENCE;

pub const PARTS: [Part; 3] = [
    ("HAProxy's configuration", configuration),
    ("hosts.d against EC2", membership),
    ("the master", master),
];

/// Template, entries, what they render to, and the running HAProxy.
fn configuration(check: &Check) -> Vec<Finding> {
    let config = &check.config;
    let hosts = HostsDir::new(config.dir());
    let place = hosts.path();
    let place = place.display();
    let mut found = Vec::new();
    let Listing { entries, strays } = match hosts.read() {
        Ok(listing) => listing,
        Err(error) => return vec![error.into()],
    };
    if entries.is_empty() {
        found.push(Finding::Warn(format!(
            "{place}: no entry yet; run: autoscaler add-host <host> <port>"
        )));
    } else if strays.is_empty() {
        let count = entries.len();
        found.push(Finding::Ok(format!("{place}: every entry is good ({count})")));
    }
    let advised =
        |stray: Error| Finding::Fail(stray.advise("it is passed over; correct it, or remove the file"));
    found.extend(strays.into_iter().map(advised));
    let rendered = match generate::rehearse(config, &entries, check.log) {
        Ok(rendered) => rendered,
        Err(error) => {
            found.push(error.into());
            return found;
        }
    };
    found.push(Finding::Ok(format!(
        "template: has $SERVERS, and `{}` takes the result",
        config.haproxy.check_command
    )));
    let socket = HaproxySocket::new(&config.haproxy.socket);
    found.push(installed(check, &rendered));
    found.push(admin(check, &socket));
    if let Finding::Ok(_) = found[found.len() - 1] {
        found.extend(running(check, &socket, &rendered));
    }
    found
}

/// The installed file against template and entries.
fn installed(check: &Check, rendered: &str) -> Finding {
    let config = &check.config;
    let path = config.haproxy.config.as_deref().unwrap_or(&config.path);
    let stale = |what: &str| {
        let cause = format!("{what}; see autoscaler generate --diff, then run: autoscaler generate");
        Error::config(path.display(), cause).into()
    };
    match generate::installed(path) {
        Err(error) => error.into(),
        Ok(None) => stale("is not there yet"),
        Ok(Some((text, _))) if text == rendered => {
            Finding::Ok(format!("{}: is what generate makes", path.display()))
        }
        Ok(Some((text, _))) => stale(&differs(&text, rendered, &sections(config))),
    }
}

/// The managed sections of the template.
fn sections(config: &Config) -> Vec<String> {
    let template = template(config).unwrap_or_default();
    text::managed(&template).into_iter().map(String::from).collect()
}

/// The names of the servers of `sections`, as far as they can be known.
fn names<'a>(text: &'a str, sections: &'a [String]) -> BTreeSet<&'a str> {
    let sections: Vec<&str> = sections.iter().map(String::as_str).collect();
    let read = text::read(text, &sections).unwrap_or_default();
    read.sections
        .iter()
        .flat_map(|s| &s.servers)
        .map(|s| s.name)
        .collect()
}

/// How the servers of `old` differ from those of `new`.
fn differs(old: &str, new: &str, sections: &[String]) -> String {
    let (old, new) = (names(old, sections), names(new, sections));
    let only = |these: &BTreeSet<&str>, those| {
        let missing: Vec<&str> = these.difference(those).copied().collect();
        missing.join(", ")
    };
    match (only(&new, &old).as_str(), only(&old, &new).as_str()) {
        ("", "") => "differs from what generate makes".into(),
        (missing, "") => format!("lacks {missing}"),
        ("", extra) => format!("still has {extra}"),
        (missing, extra) => format!("lacks {missing} and still has {extra}"),
    }
}

fn admin(check: &Check, socket: &HaproxySocket) -> Finding {
    let path = &check.config.haproxy.socket;
    let failed = |cause: String| Error::unavailable("HAProxy", cause);
    let line = format!("the template's global section needs: stats socket {path} mode 660 level admin");
    let asked = socket
        .process()
        .and_then(|process| Ok((process, socket.level()?)));
    match asked {
        Err(why) if socket.is_of_master() => failed(why)
            .advise(&format!("{path} is that of HAProxy's master process; {line}"))
            .into(),
        Err(why) => failed(why).advise(&format!("does HAProxy run? {line}")).into(),
        Ok((_, level)) if level != "admin" => {
            failed(format!("{path} is of level {level}")).advise(&line).into()
        }
        Ok((process, _)) => {
            let (major, minor) = process.version;
            Finding::Ok(format!("HAProxy: {major}.{minor} answers on {path}, level admin"))
        }
    }
}

/// The running servers against those that template and entries make, section by section.
fn running(check: &Check, socket: &HaproxySocket, rendered: &str) -> Vec<Finding> {
    let step = "run: autoscaler generate";
    let due = match DueFile::new(check.config.dir()).load() {
        Ok(due) => due.unwrap_or_default(),
        Err(error) => return vec![error.into()],
    };
    if due.reload {
        let error = Error::unavailable("HAProxy", "a reload is due that failed before");
        return vec![error.advise(step).into()];
    }
    let sections = sections(&check.config);
    let sections: Vec<&str> = sections.iter().map(String::as_str).collect();
    let asked = socket
        .process()
        .and_then(|process| Ok((process, socket.servers()?)));
    let (process, running) = match asked {
        Ok(asked) => asked,
        Err(why) => return vec![Error::unavailable("HAProxy", why).advise(step).into()],
    };
    let wanted = match text::read(rendered, &sections) {
        Ok(wanted) => wanted,
        Err(why) => {
            return vec![Finding::Skip(format!(
                "HAProxy: its servers can't be compared: {why}"
            ))];
        }
    };
    let one = |section: &Section| {
        let name = section.name;
        if let Some(unclear) = &section.unclear {
            return vec![Finding::Skip(format!(
                "HAProxy: backend `{name}` can't be compared: {unclear}"
            ))];
        }
        let differences = drift::of_section(section, &running, &due.aside).join(", ");
        let mut found = vec![match differences.is_empty() {
            true => Finding::Ok(format!(
                "HAProxy: backend `{name}` runs the servers of hosts.d ({})",
                section.servers.len()
            )),
            false => Error::unavailable(format!("HAProxy backend `{name}`"), differences)
                .advise(step)
                .into(),
        }];
        let advice = balance::advice(section, process.version);
        found.extend(advice.map(|advice| Finding::Warn(format!("HAProxy: {advice}"))));
        found
    };
    wanted.sections.iter().flat_map(one).collect()
}

/// The entries against EC2's instances.
fn membership(check: &Check) -> Vec<Finding> {
    let hosts = HostsDir::new(check.config.dir());
    let Ok(found) = hosts.read() else {
        return Vec::new();
    };
    let listing = prune::listing(&found.entries);
    cloud::compare(check, &[(hosts.path().display().to_string(), listing)])
}

/// This host's master, and which nodes its tunnels bring.
fn master(check: &Check) -> Vec<Finding> {
    let listen = check.config.master.listen;
    let place = master::reachable(listen);
    let answer = match status::ask(&check.config, place.ip(), place.port()..=place.port()) {
        Ok(mut answers) => answers.swap_remove(0),
        Err(error) => return vec![error.advise("does autoscaler master run on this host?").into()],
    };
    let reporting: Vec<String> = answer.facts().filter_map(|fact| fresh(&fact)).collect();
    let entries = HostsDir::new(check.config.dir())
        .read()
        .map_or(0, |listing| listing.entries.len());
    let (nodes, names) = (reporting.len(), reporting.join(", "));
    let text = format!(
        "master {}: answers on {place}; entries: {entries}, nodes that report: {nodes} ({names})",
        answer.master
    );
    let mut found = vec![match nodes < entries {
        true => {
            Finding::Warn(text + "; its log tells of each tunnel, and daemon has to run on each app server")
        }
        false => Finding::Ok(text),
    }];
    found.extend(doubles(&answer));
    found
}

/// Nodes that go by one name, or by one host's, as after an image of a running machine.
pub fn doubles(answer: &status::Answer) -> Vec<Finding> {
    let facts = answer.facts().filter(|fact| fact.shape.verb == "DOUBLE");
    let double = |fact: Fact| {
        let (master, node, why) = (&answer.master, fact.get("node"), fact.get("text"));
        Finding::Warn(format!(
            "master {master}: {node}: {why}; give each machine a host name of its own"
        ))
    };
    facts.map(double).collect()
}

/// The name of a node that has reported lately.
fn fresh(fact: &Fact) -> Option<String> {
    let fresh = fact.shape.verb == "NODE" && fact.number("seconds_ago") <= SILENCE.as_secs();
    fresh.then(|| fact.get("name").into())
}
