//! The client: what the rest of the program asks of EC2.

use super::credentials::Provider;
use super::exchange::{Exchange, Hook};
use super::xml::Element;
use super::{Env, Failure, Group, Imds, Instance, Service, Settings};
use super::{endpoint, first_set, group, response, var};
use crate::core::haproxy::entry::is_instance_id;
use crate::system::machine;
use std::sync::Arc;
use std::time::Instant;

/// Instances a page: a few hundred kilobytes of XML.
const PAGE: &str = "100";
const MAX_PAGES: usize = 500;

/// A client of EC2. Calls block; they may come from several threads at once.
pub struct Client {
    exchange: Exchange,
}

/// Who calls, and where; for `check`. Holds no secret.
#[derive(Debug, Clone)]
pub struct Identity {
    pub access_key: String,
    /// Where the credentials come from.
    pub source: String,
    pub region: String,
    pub region_source: String,
    /// EC2's URL.
    pub endpoint: String,
    /// The places that were searched for credentials before `source`, with the reasons.
    pub tried: Vec<String>,
}

impl Client {
    /// Checks `settings` alone: nothing is opened, and Region and credentials are
    /// found by the first call.
    pub fn new(settings: Settings) -> Result<Client, Failure> {
        let own = settings.variables.clone();
        let env = move |name: &str| match own.iter().rfind(|(known, _)| known == name) {
            Some((_, value)) => Some(value.clone()),
            None => std::env::var(name).ok(),
        };
        let env = move |name: &str| match env(name) {
            None if name == "HOME" => machine::home(),
            found => found,
        };
        Client::with_env(settings, Arc::new(env))
    }

    pub(super) fn with_env(settings: Settings, env: Env) -> Result<Client, Failure> {
        if settings.access_key.is_empty() != settings.secret_key.is_empty() {
            return Err(Failure::Config(
                "aws_access_key and aws_secret_key go together: one is missing".to_string(),
            ));
        }
        if !settings.endpoint_url.is_empty() {
            endpoint::split(&settings.endpoint_url)
                .map_err(|what| Failure::Config(format!("endpoint_url: {what}")))?;
        }
        let in_env = ["AWS_REGION", "AWS_DEFAULT_REGION"].map(|name| var(&env, name));
        let region = first_set([&settings.region, &in_env[0], &in_env[1]]);
        endpoint::check_region(region).map_err(Failure::Config)?;
        let imds = Imds::new(&settings.metadata_url, &env)?;
        Ok(Client {
            exchange: Exchange::new(Provider::new(settings, env, imds)),
        })
    }

    /// `hook` gets one line per retry, renewal of credentials or correction of the clock.
    pub fn on_event(&mut self, hook: Hook) {
        self.exchange.hook = Some(hook);
    }

    /// This machine's instance metadata.
    pub fn metadata(&self) -> &Imds {
        &self.exchange.provider.imds
    }

    /// EC2's time in unix seconds, as far as an answer has told it yet.
    pub fn now(&self) -> u64 {
        self.exchange.now()
    }

    /// Seconds by which this machine's clock is behind EC2's; negative: ahead.
    pub fn clock_skew(&self) -> i64 {
        self.exchange.skew()
    }

    /// Finds credentials and Region. A failure's text tells what was tried.
    pub fn identity(&self) -> Result<Identity, Failure> {
        let resolved = self.exchange.resolved()?;
        let provider = &self.exchange.provider;
        let keys = provider.keys(self.now(), &resolved.target(Service::Sts))?;
        Ok(Identity {
            access_key: keys.access_key,
            source: keys.source,
            region: resolved.region.clone(),
            region_source: resolved.region_source.clone(),
            endpoint: resolved.ec2.url.clone(),
            tried: provider.tried(),
        })
    }

    /// RunInstances with `params`, for 1 to `count` machines, whatever `params` say of it, and with
    /// `client_token` (1 to 64 ASCII characters). All that EC2 launched, or had launched with this
    /// token and the same count before: at least one, and fewer than `count` where it has no more.
    /// While the outcome of a try is unknown, the very same request is sent again,
    /// until `deadline`; `Unavailable` means that it is unknown still.
    pub fn run_instances(
        &self,
        params: &[(String, String)],
        count: u32,
        client_token: &str,
        deadline: Instant,
    ) -> Result<Vec<Instance>, Failure> {
        if !(1..=64).contains(&client_token.len()) || !client_token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Failure::Config(
                "a client token has 1 to 64 ASCII characters".to_string(),
            ));
        }
        let mut params = without(params, &["ClientToken", "MinCount", "MaxCount"]);
        params.push(pair("MinCount", "1"));
        params.push(pair("MaxCount", &count.max(1).to_string()));
        params.push(pair("ClientToken", client_token));
        self.exchange
            .execute(Service::Ec2, "RunInstances", &params, deadline, |root| {
                response::launched(&root)
            })
    }

    /// Whether `action` of EC2 with `params` would be allowed.
    pub fn dry_run_of(
        &self,
        action: &str,
        params: &[(String, String)],
        deadline: Instant,
    ) -> Result<(), Failure> {
        let mut params = without(params, &["DryRun", "ClientToken"]);
        params.push(pair("DryRun", "true"));
        match self.call(Service::Ec2, action, &params, deadline) {
            Err(Failure::Fatal { code, .. }) if code == "DryRunOperation" => Ok(()),
            Err(failure) => Err(failure),
            Ok(_) => Err(Failure::Fatal {
                code: "DryRunIgnored".to_string(),
                message: format!("the endpoint has carried out a dry run of {action}"),
            }),
        }
    }

    /// Any action; returns the answer's root. It may be sent more than once, so it
    /// must be one that is safe to repeat, or carry a token.
    pub fn call(
        &self,
        service: Service,
        action: &str,
        params: &[(String, String)],
        deadline: Instant,
    ) -> Result<Element, Failure> {
        self.exchange.execute(service, action, params, deadline, Ok)
    }

    /// All instances tagged `autoscaler:cluster=<cluster>`, in any state. Either
    /// every page could be read, or the call fails.
    pub fn cluster_instances(&self, cluster: &str, deadline: Instant) -> Result<Vec<Instance>, Failure> {
        const TAG: &str = "autoscaler:cluster";
        // A filter takes * and ? as wildcards.
        let literal: String = cluster
            .chars()
            .flat_map(|c| ["*?\\".contains(c).then_some('\\'), Some(c)])
            .flatten()
            .collect();
        let mut params = vec![
            pair("Filter.1.Name", &format!("tag:{TAG}")),
            pair("Filter.1.Value.1", &literal),
            pair("MaxResults", PAGE),
        ];
        let mut all: Vec<Instance> = Vec::new();
        for _ in 0..MAX_PAGES {
            let (page, next) = self.describe(&params, deadline)?;
            for one in page {
                // The filter is EC2's word; what may be terminated goes by the tag itself.
                if one.tag(TAG) == Some(cluster) && !all.iter().any(|known| known.id == one.id) {
                    all.push(one);
                }
            }
            if next.is_empty() {
                return Ok(all);
            }
            params.truncate(3);
            params.push(("NextToken".to_string(), next));
        }
        Err(Failure::Unavailable {
            cause: format!("DescribeInstances: no end after {MAX_PAGES} pages"),
        })
    }

    /// The instance `id`; None if EC2 doesn't know it, which may just mean that it
    /// was launched a moment ago.
    pub fn instance(&self, id: &str, deadline: Instant) -> Result<Option<Instance>, Failure> {
        let params = [instance_param(id)?];
        match self.describe(&params, deadline) {
            Ok((list, _)) => Ok(list.into_iter().find(|one| one.id == id)),
            Err(Failure::NotFound { .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The instances that were launched with `client_token`, in any state and zone, as far as EC2
    /// knows them yet.
    pub fn launched_with(&self, client_token: &str, deadline: Instant) -> Result<Vec<Instance>, Failure> {
        let params = [
            pair("Filter.1.Name", "client-token"),
            pair("Filter.1.Value.1", client_token),
        ];
        let (list, _) = self.describe(&params, deadline)?;
        let ours = |one: &Instance| one.client_token.as_deref() == Some(client_token);
        Ok(list.into_iter().filter(ours).collect())
    }

    /// TerminateInstances. A new instance may not be known yet, so `NotFound` is
    /// tried again until `deadline` and then reported.
    pub fn terminate(&self, id: &str, deadline: Instant) -> Result<(), Failure> {
        let params = [instance_param(id)?];
        self.exchange
            .execute(Service::Ec2, "TerminateInstances", &params, deadline, |root| {
                let mut items = root.items(&["instancesSet"]);
                match items.any(|item| item.text_at(&["instanceId"]) == id) {
                    true => Ok(()),
                    false => Err(format!("TerminateInstances answered without {id}")),
                }
            })
    }

    /// Whether these rights would do for [`Client::terminate`]. EC2's dry run does not look at an
    /// instance's termination protection.
    pub fn may_terminate(&self, id: &str, deadline: Instant) -> Result<(), Failure> {
        self.dry_run_of("TerminateInstances", &[instance_param(id)?], deadline)
    }

    /// The Auto Scaling group `name`; None if there is none of this name in the Region.
    pub fn group(&self, name: &str, deadline: Instant) -> Result<Option<Group>, Failure> {
        let params = [pair("AutoScalingGroupNames.member.1", name)];
        self.exchange.execute(
            Service::Autoscaling,
            "DescribeAutoScalingGroups",
            &params,
            deadline,
            |root| group::described(&root, name),
        )
    }

    /// TerminateInstanceInAutoScalingGroup. `shrink`: the group gets smaller; otherwise it
    /// launches another one.
    pub fn terminate_in_group(&self, id: &str, shrink: bool, deadline: Instant) -> Result<(), Failure> {
        let shrink = if shrink { "true" } else { "false" };
        let params = [
            pair("InstanceId", id),
            pair("ShouldDecrementDesiredCapacity", shrink),
        ];
        let action = "TerminateInstanceInAutoScalingGroup";
        self.call(Service::Autoscaling, action, &params, deadline)?;
        Ok(())
    }

    fn describe(
        &self,
        params: &[(String, String)],
        deadline: Instant,
    ) -> Result<(Vec<Instance>, String), Failure> {
        self.exchange
            .execute(Service::Ec2, "DescribeInstances", params, deadline, |root| {
                let (list, next) = response::described(&root)?;
                Ok((list, next.to_string()))
            })
    }
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_string(), value.to_string())
}

fn without(params: &[(String, String)], names: &[&str]) -> Vec<(String, String)> {
    let kept = params.iter().filter(|param| !names.contains(&param.0.as_str()));
    kept.cloned().collect()
}

fn instance_param(id: &str) -> Result<(String, String), Failure> {
    match is_instance_id(id) {
        true => Ok(pair("InstanceId.1", id)),
        false => Err(Failure::Config(format!(
            "\"{}\" is no instance id",
            response::one_line(id)
        ))),
    }
}
