//! What EC2 answers, checked: ids, states and addresses that aren't what they
//! should be make the whole answer an error, never a guess.

use super::xml::Element;
use super::{clock, first_set};
use crate::core::haproxy::entry::is_instance_id;
use std::net::IpAddr;

/// An instance as RunInstances and DescribeInstances tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// `i-` and up to 32 hex digits.
    pub id: String,
    pub state: State,
    /// The primary private address; the IPv6 address where there is no IPv4.
    pub private_ip: Option<IpAddr>,
    /// Unix seconds; `None` where EC2 does not say, which makes it neither old nor new.
    pub launched_at: Option<u64>,
    /// `<code>: <message>` of the last change of state, on one line.
    pub state_reason: Option<String>,
    pub instance_type: String,
    /// Its `ami-…`.
    pub image: String,
    pub subnet: String,
    /// The availability zone.
    pub zone: String,
    /// Names and values as they are: any text.
    pub tags: Vec<(String, String)>,
    pub client_token: Option<String>,
}

/// On an instance that nobody but its owner is to touch, whatever its value.
pub const KEEP_TAG: &str = "autoscaler:keep";
/// EC2's own, on the members of an Auto Scaling group.
const GROUP_TAG: &str = "aws:autoscaling:groupName";

impl Instance {
    /// `pending` or `running`.
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Pending | State::Running)
    }

    /// `shutting-down` or `terminated`, for good. A stopped one may come back.
    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::ShuttingDown | State::Terminated)
    }

    /// Does its owner ask autoscaler to leave it alone?
    pub fn is_kept(&self) -> bool {
        self.tag(KEEP_TAG).is_some()
    }

    /// The Auto Scaling group that it belongs to.
    pub fn group(&self) -> Option<&str> {
        self.tag(GROUP_TAG)
    }

    /// The value of the tag `name`.
    pub fn tag(&self, name: &str) -> Option<&str> {
        let found = self.tags.iter().find(|tag| tag.0 == name);
        found.map(|tag| tag.1.as_str())
    }
}

/// EC2's instance states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Pending,
    Running,
    ShuttingDown,
    Terminated,
    Stopping,
    Stopped,
}

const STATES: [(State, &str); 6] = [
    (State::Pending, "pending"),
    (State::Running, "running"),
    (State::ShuttingDown, "shutting-down"),
    (State::Terminated, "terminated"),
    (State::Stopping, "stopping"),
    (State::Stopped, "stopped"),
];

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let name = STATES.iter().find(|s| s.0 == *self).map_or("", |s| s.1);
        f.write_str(name)
    }
}

/// The instances of a RunInstances answer: at least one.
pub fn launched(root: &Element) -> Result<Vec<Instance>, String> {
    let found: Result<Vec<_>, _> = root.items(&["instancesSet"]).map(instance).collect();
    match found {
        Ok(list) if list.is_empty() => Err("RunInstances answered without an instance".to_string()),
        other => other,
    }
}

/// The instances of one page of DescribeInstances, and the token of the next
/// page, empty on the last.
pub fn described(root: &Element) -> Result<(Vec<Instance>, &str), String> {
    // Without this, an answer of another shape would read as "no instances".
    root.find(&["reservationSet"])
        .ok_or("DescribeInstances answered without a reservationSet")?;
    let found: Result<Vec<_>, _> = root
        .items(&["reservationSet"])
        .flat_map(|reservation| reservation.items(&["instancesSet"]))
        .map(instance)
        .collect();
    Ok((found?, root.text_at(&["nextToken"])))
}

/// Code and message of an error answer, EC2's shape or the other services'.
/// None if `root` is no error, or one whose code could not be a code.
pub fn error(root: &Element) -> Option<(String, String)> {
    let error = root
        .find(&["Errors", "Error"])
        .or_else(|| root.find(&["Error"]))?;
    let code = error.text_at(&["Code"]);
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'_';
    let plain = !code.is_empty() && code.len() <= 100 && code.bytes().all(fits);
    plain.then(|| (code.to_string(), one_line(error.text_at(&["Message"]))))
}

/// `text` on one line of bounded length, for logs: a peer's text must not forge one.
pub fn one_line(text: &str) -> String {
    // EC2 appends kilobytes that only DecodeAuthorizationMessage can read.
    let text = text.split("Encoded authorization failure").next().unwrap_or("");
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    line.chars().filter(|c| !c.is_control()).take(400).collect()
}

fn instance(item: &Element) -> Result<Instance, String> {
    let id = item.text_at(&["instanceId"]);
    if !is_instance_id(id) {
        return Err(format!("\"{}\" is no instance id", one_line(id)));
    }
    let name = |path: &[&str]| {
        let text = item.text_at(path);
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        match text.len() <= 100 && text.bytes().all(fits) {
            true => Ok(text.to_string()),
            false => Err(format!("{id}: \"{}\" is no name", one_line(text))),
        }
    };
    let state = item.text_at(&["instanceState", "name"]);
    let state = STATES
        .iter()
        .find(|s| s.1 == state)
        .ok_or_else(|| format!("{id}: \"{}\" is no state", one_line(state)))?
        .0;
    let optional = |text: &str| (!text.is_empty()).then(|| text.to_string());
    Ok(Instance {
        id: id.to_string(),
        state,
        private_ip: address(item).map_err(|what| format!("{id}: {what}"))?,
        launched_at: clock::iso_date(item.text_at(&["launchTime"])),
        state_reason: reason(item),
        instance_type: name(&["instanceType"])?,
        image: name(&["imageId"])?,
        subnet: name(&["subnetId"])?,
        zone: name(&["placement", "availabilityZone"])?,
        tags: item
            .items(&["tagSet"])
            .map(|tag| (tag.raw("key"), tag.raw("value")))
            .collect(),
        client_token: optional(item.text_at(&["clientToken"])),
    })
}

fn address(item: &Element) -> Result<Option<IpAddr>, String> {
    let text = first_set(["privateIpAddress", "ipv6Address"].map(|name| item.text_at(&[name])));
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<IpAddr>() {
        Ok(ip) if !ip.is_unspecified() && !ip.is_multicast() => Ok(Some(ip)),
        _ => Err(format!("\"{}\" is no address", one_line(text))),
    }
}

fn reason(item: &Element) -> Option<String> {
    let code = one_line(item.text_at(&["stateReason", "code"]));
    let message = one_line(item.text_at(&["stateReason", "message"]));
    match (code.is_empty(), message.is_empty()) {
        // What the transition is put down to: `User initiated (<time>)`.
        (true, true) => Some(one_line(item.text_at(&["reason"]))).filter(|text| !text.is_empty()),
        // EC2's messages often repeat their code.
        (false, false) if !message.starts_with(&code) => Some(format!("{code}: {message}")),
        (false, true) => Some(code),
        _ => Some(message),
    }
}

#[cfg(test)]
#[path = "response_test.rs"]
mod tests;
