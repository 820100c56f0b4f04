//! EC2 as the rest of the program asks it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::command::outline;
use crate::aws_cli::Request;
use crate::config::{self, Config};
use crate::core::plan::{Instance, Life, Listed, Survey};
use crate::ec2::{self, Client, Failure, Service};
use crate::error::{Error, Kind};
use crate::system::log::Log;

/// For one question to EC2, its retries included.
pub const EC2_TIME: Duration = Duration::from_secs(60);
/// The tag that says which cluster an instance belongs to.
pub const CLUSTER_TAG: &str = "autoscaler:cluster";

/// The client of a command that only looks. It takes the options of `scale_up_command` where they
/// can be read, without the files that the command names: those need not be on this host.
///
/// # Errors
/// Config; nothing is opened.
pub fn observer(config: &Config, log: Log) -> Result<Client, Error> {
    client(&config.aws, outline(config).as_ref(), log)
}

/// The cluster's instances, terminated ones included while EC2 lists them.
///
/// # Errors
/// EC2 could not tell all of them within `time`.
pub fn instances(client: &Client, cluster: &str, time: Duration) -> Result<Vec<Instance>, Error> {
    let found = client.cluster_instances(cluster, Instant::now() + time);
    let listed = found.map_err(|e| ec2_error("DescribeInstances", &e))?;
    let instance = |i: ec2::Instance| Instance {
        life: match (i.is_live(), i.is_gone()) {
            (true, _) => Life::Live,
            (_, true) => Life::Gone,
            _ => Life::Stopped,
        },
        address: i.private_ip.map(|ip| ip.to_string()),
        launched_at: i.launched_at,
        keep: i.is_kept(),
        image: i.image.clone(),
        of_group: i.group().is_some(),
        in_service: true,
        id: i.id,
    };
    Ok(listed.into_iter().map(instance).collect())
}

/// Those of `ids` that EC2 does not know, and those that it says to be shutting down or terminated.
///
/// # Errors
/// EC2 could not tell of each.
pub fn whereabouts(
    client: &Client,
    ids: Vec<String>,
    time: Duration,
) -> Result<(BTreeSet<String>, BTreeSet<String>), Error> {
    let deadline = Instant::now() + time;
    let (mut unknown, mut gone) = (BTreeSet::new(), BTreeSet::new());
    for id in ids {
        let found = client.instance(&id, deadline);
        let found = found.map_err(|e| ec2_error("DescribeInstances", &e))?;
        match found {
            None => _ = unknown.insert(id),
            Some(instance) if instance.is_gone() => _ = gone.insert(id),
            Some(_) => {}
        }
    }
    Ok((unknown, gone))
}

/// EC2's word on the entries of one `listing`: `instances` are the cluster's, and it is asked for the others.
///
/// # Errors
/// EC2 could not tell of each.
pub fn survey(
    client: &Client,
    instances: Vec<Instance>,
    listing: Vec<Listed>,
    time: Duration,
) -> Result<Survey, Error> {
    let mut survey = Survey {
        instances,
        now: client.now(),
        listings: vec![Ok(listing)],
        ..Survey::default()
    };
    let ids = survey.unlisted_by_ec2().into_iter().collect();
    (survey.unknown, survey.gone) = whereabouts(client, ids, time)?;
    Ok(survey)
}

/// The client that signs, with the options of `request`, and the variables before it, before the
/// INI's keys.
pub fn client(aws: &config::Aws, request: Option<&Request>, log: Log) -> Result<Client, Error> {
    let option = |of: fn(&Request) -> &Option<String>| request.and_then(|r| of(r).clone());
    let variables = request.map_or(&[][..], |r| &r.variables);
    let variable = |names: &[&str]| {
        let given = |name| {
            variables
                .iter()
                .rfind(|(known, value)| known == name && !value.is_empty())
        };
        names.iter().find_map(given).map(|(_, value)| value.clone())
    };
    let profile = option(|r| &r.profile);
    // A profile asked for by name brings its own keys, and so do variables.
    let own_keys = profile.is_some()
        || variable(&[
            "AWS_ACCESS_KEY_ID",
            "AWS_PROFILE",
            "AWS_DEFAULT_PROFILE",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
        ])
        .is_some();
    let unless_own = |key: &String| if own_keys { String::new() } else { key.clone() };
    let url_for = |name, service| {
        let option = || request.filter(|r| r.service == service)?.endpoint_url.clone();
        option().or_else(|| variable(&[name, "AWS_ENDPOINT_URL"]))
    };
    let settings = ec2::Settings {
        access_key: unless_own(&aws.access_key),
        secret_key: unless_own(&aws.secret_key),
        session_token: unless_own(&aws.session_token),
        region: option(|r| &r.region)
            .or_else(|| variable(&["AWS_REGION", "AWS_DEFAULT_REGION"]))
            .unwrap_or_else(|| aws.region.clone()),
        endpoint_url: url_for("AWS_ENDPOINT_URL_EC2", Service::Ec2)
            .unwrap_or_else(|| aws.endpoint_url.clone()),
        autoscaling_url: url_for("AWS_ENDPOINT_URL_AUTO_SCALING", Service::Autoscaling).unwrap_or_default(),
        ca_bundle: option(|r| &r.ca_bundle)
            .or_else(|| variable(&["AWS_CA_BUNDLE"]))
            .unwrap_or_else(|| aws.ca_bundle.clone()),
        metadata_url: aws.metadata_url.clone(),
        profile,
        variables: variables.to_vec(),
    };
    let mut client = Client::new(settings).map_err(|e| ec2_error("settings", &e))?;
    client.on_event(Box::new(move |text| log.event(text)));
    Ok(client)
}

/// EC2's failure, with its exit code.
pub fn ec2_error(action: &str, failure: &Failure) -> Error {
    aws_error("EC2", action, failure)
}

/// The same of another service, by its name.
pub fn aws_error(service: &str, action: &str, failure: &Failure) -> Error {
    let kind = match failure {
        Failure::Credentials { .. } => Kind::Refused,
        Failure::Config(_) | Failure::Fatal { .. } | Failure::TokenMismatch { .. } => Kind::Config,
        _ => Kind::Unavailable,
    };
    Error::new(kind, format!("{service} {action}"), failure)
}
