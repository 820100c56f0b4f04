//! The side of an app server.

use std::sync::Arc;

use super::findings::{Finding, ssh_step};
use super::{Check, Part, TIME, cloud, haproxy_host};
use crate::command::status;
use crate::core::plan::{Life, Listed};
use crate::core::protocol::facts::Fact;
use crate::core::protocol::host_of;
use crate::error::Error;
use crate::system::links::{LOOPBACK, is_own, open_port};
use crate::system::machine::{self, StatFile};
use crate::worker::cloud::CLUSTER_TAG;
use crate::worker::remote::Remote;
use crate::worker::{Worker, own_machine};

pub const PARTS: [Part; 6] = [
    ("a dry run of the launch", launch),
    ("a dry run of the termination", termination),
    ("the HAProxy hosts", balancers),
    ("the tunnels", tunnels),
    ("the CPU's counters", counters),
    ("this machine's metadata", identity),
];

/// `scale_up_command`, as far as it can be tried without launching.
fn launch(check: &Check) -> Vec<Finding> {
    let ready = Worker::ready(Arc::clone(&check.config), check.log);
    vec![match ready.map(|w| w.rehearse(TIME)) {
        Err(error) | Ok(Some(Err(error))) => error.into(),
        Ok(Some(Ok(said))) => Finding::Ok(format!("scale_up_command: {said}")),
        Ok(None) => Finding::Skip("scale_up_command: a shell command, which can't be tried".into()),
    }]
}

/// Whether a machine of the cluster could be terminated: this one, else any. Those that fail while
/// they boot have to be, whether or not machines ever leave.
fn termination(check: &Check) -> Vec<Finding> {
    let Ok(worker) = Worker::new(Arc::clone(&check.config), check.log) else {
        return Vec::new();
    };
    let own = match (&check.client, own_machine::has_metadata(&check.config)) {
        (Ok(client), true) => client.metadata().instance_id().ok().flatten(),
        _ => None,
    };
    let Ok(instances) = cloud::instances(check) else {
        return Vec::new();
    };
    let live = || instances.iter().filter(|i| i.life == Life::Live);
    let Some(instance) = live().find(|i| Some(&i.id) == own.as_ref()).or(live().next()) else {
        let why = "termination: not tried, as the cluster has no live instance yet";
        return vec![Finding::Skip(why.into())];
    };
    match worker.rehearse_leaving(&instance.id, TIME) {
        None => Vec::new(),
        Some(Ok(())) => vec![Finding::Ok(format!(
            "termination: EC2 would terminate {} (a signed dry run)",
            instance.id
        ))],
        Some(Err(error)) => vec![error.into()],
    }
}

/// Each HAProxy host over ssh: its entries, and how they compare with EC2.
fn balancers(check: &Check) -> Vec<Finding> {
    let haproxy = &check.config.haproxy;
    let answers = Remote::new(haproxy).on_each(TIME, haproxy.servers.clone(), "list-hosts");
    let (mut found, mut listings) = (Vec::new(), Vec::new());
    for (server, answer) in answers {
        let place = format!("HAProxy host {server}");
        match answer.and_then(|text| listing(&place, &text)) {
            Ok(listing) => {
                found.push(Finding::Ok(format!("{place}: list-hosts by ssh")));
                listings.push((place, listing));
            }
            Err(error) => {
                let step = ssh_step(&error.to_string());
                found.push(error.advise(step).into());
            }
        }
    }
    found.extend(cloud::compare(check, &listings));
    found
}

fn listing(place: &str, text: &str) -> Result<Vec<Listed>, Error> {
    let line = |line| {
        let odd = || format!("answers to list-hosts: `{line}`; see to [haproxy] remote_command");
        Listed::parse(line).ok_or_else(|| Error::unavailable(place, odd()))
    };
    text.lines().map(line).collect()
}

/// The masters within reach.
fn tunnels(check: &Check) -> Vec<Finding> {
    let config = &check.config;
    let answers = match status::ask(config, LOOPBACK, config.master.tunnel_ports.clone()) {
        Ok(answers) => answers,
        Err(error) => {
            let step =
                "is this host in hosts.d there, and does autoscaler master run? its log tells of the tunnel";
            return vec![error.advise(step).into()];
        }
    };
    let names: Vec<&str> = answers.iter().map(|a| a.master.as_str()).collect();
    let (count, of) = (answers.len(), config.haproxy.servers.len());
    let masters = format!("{count} for {of} HAProxy hosts: {}", names.join(", "));
    let mut found = vec![match count < of {
        true => {
            let step = "on the others, see the log of autoscaler master";
            Error::unavailable("masters", masters).advise(step).into()
        }
        false => Finding::Ok(format!("masters: {masters}")),
    }];
    found.extend(answers.iter().flat_map(haproxy_host::doubles));
    let open = machine::open_ports(config.master.tunnel_ports.clone());
    let open = open.into_iter().filter(|port| !is_own(*port, &config.master));
    found.extend(open.map(|port| Finding::Warn(open_port(port))));
    let node = machine::host_name().unwrap_or_default();
    let knows = |fact: Fact| fact.shape.verb == "NODE" && host_of(fact.get("name")) == node;
    let strangers = answers.iter().filter(|a| !a.facts().any(knows));
    let strangers: Vec<&str> = strangers.map(|a| a.master.as_str()).collect();
    if !strangers.is_empty() {
        let strangers = strangers.join(", ");
        found.push(Finding::Warn(format!(
            "daemon: {node} does not report to {strangers}; start autoscaler daemon on this host"
        )));
    }
    found
}

fn counters(check: &Check) -> Vec<Finding> {
    let procfs = &check.config.scaling.procfs;
    vec![match StatFile::new(procfs).read() {
        Ok(_) => Finding::Ok(format!("{}: readable", procfs.join("stat").display())),
        Err(error) => error.advise("see to [scaling] procfs").into(),
    }]
}

/// Who this machine is to EC2 and to HAProxy.
fn identity(check: &Check) -> Vec<Finding> {
    let address = match own_machine::address(&check.config) {
        Ok(address) => format!("this machine: {address}"),
        Err(error) => return vec![Finding::Info(format!("this machine: {error}"))],
    };
    let client = match &check.client {
        Ok(client) if own_machine::has_metadata(&check.config) => client,
        _ => return vec![Finding::Info(address)],
    };
    let cluster = &check.config.cluster.name;
    let tag = format!("{CLUSTER_TAG}={cluster}");
    vec![Finding::Info(match client.metadata().instance_id() {
        Ok(Some(id)) => match cloud::instances(check) {
            Ok(all) if all.iter().any(|i| i.id == id) => format!("{address}, {id}, tagged {tag}"),
            Ok(_) => format!("{address}, {id}, not tagged {tag}: it never leaves by itself"),
            Err(_) => format!("{address}, {id}"),
        },
        Ok(None) => format!("{address}, not an EC2 instance"),
        Err(none) => format!("{address}, not an EC2 instance that can be told: {}", none.cause),
    })]
}
