//! What the caller may set, and what follows from it, the environment and the
//! shared files: Region and endpoints.

use super::credentials::Provider;
use super::endpoint::{self, Endpoint, Service};
use super::http::Http;
use super::profile::Profile;
use super::query::Target;
use super::{Env, Failure, first_set, var};
use std::fmt;

/// Explicit settings; an empty text is an unset one. `Debug` shows no secret.
#[derive(Clone, Default)]
pub struct Settings {
    pub access_key: String,
    pub secret_key: String,
    pub session_token: String,
    pub region: String,
    /// A profile asked for by name goes before the environment's keys.
    pub profile: Option<String>,
    /// EC2's URL, and the other services' unless they have one of their own.
    pub endpoint_url: String,
    /// Auto Scaling's URL.
    pub autoscaling_url: String,
    pub ca_bundle: String,
    pub metadata_url: String,
    /// Variables that go before those of the process's environment; an empty one unsets.
    pub variables: Vec<(String, String)>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Settings")
            .field("access_key", &self.access_key)
            .field("region", &self.region)
            .field("profile", &self.profile)
            .field("endpoint_url", &self.endpoint_url)
            .field("ca_bundle", &self.ca_bundle)
            .field("metadata_url", &self.metadata_url)
            .finish_non_exhaustive()
    }
}

/// What calls need besides credentials.
pub struct Resolved {
    pub region: String,
    /// Where the Region comes from, for people.
    pub region_source: String,
    pub ec2: Endpoint,
    autoscaling: Endpoint,
    sts: Endpoint,
    http: Http,
}

impl Resolved {
    /// Reads environment and shared files, and asks the metadata service for the
    /// Region if nothing else names one.
    pub fn find(of: &Provider) -> Result<Resolved, Failure> {
        let (settings, env) = (&of.settings, &of.env);
        let profile = Profile::load(settings, env)?;
        let (region, region_source) = region(of, &profile)?;
        endpoint::check_region(&region).map_err(Failure::Config)?;
        let at = |service| {
            let url = configured_url(service, settings, env, &profile);
            let flag = |variable, key| {
                first_set([&var(env, variable), profile.get(key)]).eq_ignore_ascii_case("true")
            };
            let url = match url.is_empty() {
                true => endpoint::url(
                    service,
                    &region,
                    flag("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint"),
                    flag("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint"),
                ),
                false => Ok(url),
            };
            url.and_then(|url| endpoint::split(&url)).map_err(Failure::Config)
        };
        let in_env = var(env, "AWS_CA_BUNDLE");
        let ca_bundle = first_set([&settings.ca_bundle, &in_env, profile.get("ca_bundle")]);
        Ok(Resolved {
            ec2: at(Service::Ec2)?,
            autoscaling: at(Service::Autoscaling)?,
            sts: at(Service::Sts)?,
            http: Http::new(ca_bundle)?,
            region,
            region_source,
        })
    }

    /// `service`, as it is reached.
    pub fn target(&self, service: Service) -> Target<'_> {
        Target {
            service,
            http: &self.http,
            at: match service {
                Service::Ec2 => &self.ec2,
                Service::Autoscaling => &self.autoscaling,
                Service::Sts => &self.sts,
            },
            region: &self.region,
        }
    }
}

fn region(of: &Provider, profile: &Profile) -> Result<(String, String), Failure> {
    let Provider { settings, env, .. } = of;
    let known = [
        (settings.region.clone(), "aws_default_region".to_string()),
        (var(env, "AWS_REGION"), "AWS_REGION".to_string()),
        (var(env, "AWS_DEFAULT_REGION"), "AWS_DEFAULT_REGION".to_string()),
        (
            profile.get("region").to_string(),
            format!("profile {}", profile.name),
        ),
    ];
    if let Some(found) = known.into_iter().find(|(region, _)| !region.is_empty()) {
        return Ok(found);
    }
    let cause = match of.imds.region() {
        Ok(Some(region)) => return Ok((region, "instance metadata".to_string())),
        Ok(None) => "instance metadata has none".to_string(),
        Err(none) if none.is_trouble() => return Err(none.into()),
        Err(none) => none.cause,
    };
    Err(Failure::Config(format!(
        "no Region: set aws_default_region, or AWS_REGION ({cause})"
    )))
}

/// The URL that somebody has set for `service`; empty if nobody has.
fn configured_url(service: Service, settings: &Settings, env: &Env, profile: &Profile) -> String {
    let ours = settings.endpoint_url.as_str();
    let key = service.config_key();
    let own = match var(env, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").eq_ignore_ascii_case("true") {
        true => Default::default(),
        false => [
            var(env, &format!("AWS_ENDPOINT_URL_{}", key.to_ascii_uppercase())),
            var(env, "AWS_ENDPOINT_URL"),
            profile.services.nested(key, "endpoint_url").to_string(),
            profile.get("endpoint_url").to_string(),
        ],
    };
    let [of_service, of_all, in_services, in_profile] = own.each_ref().map(String::as_str);
    // Ours is EC2's first of all: for another service, one that names it goes before.
    let (first, third) = match service {
        Service::Ec2 => (ours, ""),
        Service::Autoscaling => (settings.autoscaling_url.as_str(), ours),
        Service::Sts => ("", ours),
    };
    first_set([first, of_service, third, of_all, in_services, in_profile]).to_string()
}
