//! Where credentials, Region and endpoint come from.

use super::credentials::Provider;
use super::fake::{self, Fake, Reply, http};
use super::http::Http;
use super::imds::Lack;
use super::query::Target;
use super::{Client, Env, Failure, Imds, Service, Settings, endpoint};
use std::time::{Duration, Instant};

/// A port that nobody listens on.
const NOBODY: &str = "http://127.0.0.1:9";

/// Where no STS answers.
pub fn nobody() -> endpoint::Endpoint {
    endpoint::split(NOBODY).unwrap()
}

pub fn sts<'a>(http: &'a Http, at: &'a endpoint::Endpoint) -> Target<'a> {
    Target {
        service: Service::Sts,
        http,
        at,
        region: "us-east-1",
    }
}

pub const NOW: u64 = 1_440_938_160; // 2015-08-30T12:36:00Z

fn role(expires: &str) -> String {
    format!(
        "{{\"Code\": \"Success\", \"AccessKeyId\": \"ROLEKEY\", \"SecretAccessKey\": \"s\", \
         \"Token\": \"t\", \"Expiration\": \"{expires}\"}}"
    )
}

/// A metadata service whose role's credentials run out at `expires`, then fails.
fn metadata(expires: &'static str, fetches: usize) -> Fake {
    let left = std::sync::atomic::AtomicUsize::new(fetches);
    Fake::start(move |_, request| {
        let path = request.split(' ').nth(1).unwrap_or("");
        match path.strip_prefix("/latest/").unwrap_or("") {
            "api/token" if request.starts_with("PUT ") => http(200, "", "imdstoken"),
            _ if !request
                .to_ascii_lowercase()
                .contains("x-aws-ec2-metadata-token: imdstoken\r\n") =>
            {
                http(401, "", "")
            }
            "meta-data/placement/region" => http(200, "", "eu-west-3"),
            "meta-data/iam/security-credentials/" => http(200, "", "app-role\n"),
            "meta-data/iam/security-credentials/app-role" => {
                let order = std::sync::atomic::Ordering::SeqCst;
                match left.fetch_update(order, order, |n| n.checked_sub(1)) {
                    Ok(_) => http(200, "", &role(expires)),
                    Err(_) => http(400, "", ""),
                }
            }
            _ => http(404, "", ""),
        }
    })
}

pub fn provider(settings: Settings, env: Env) -> Provider {
    let url = match settings.metadata_url.as_str() {
        "" => NOBODY,
        url => url,
    };
    let imds = Imds::new(url, &env).unwrap();
    Provider::new(settings, env, imds)
}

pub fn source(settings: Settings, env: &[(&str, &str)]) -> Result<(String, String), Failure> {
    let keys = provider(settings, fake::env(env)).keys(NOW, &sts(&Http::default(), &nobody()))?;
    Ok((keys.access_key, keys.source))
}

/// A file that is removed at the end.
pub struct Scratch(pub String);

impl Scratch {
    pub fn new(name: &str, text: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("autoscaler-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Scratch(path.to_str().unwrap().to_string())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn the_chain_goes_in_order() {
    let credentials = Scratch::new(
        "credentials",
        "[default]\naws_access_key_id = FILE\naws_secret_access_key = s\n\
         [half]\naws_access_key_id = A\n[sso]\nx = 1\n",
    );
    let config = Scratch::new(
        "config",
        "[profile other]\naws_access_key_id=CONFIG\naws_secret_access_key=s\n\
         [profile sso]\nsso_session = x\n",
    );
    let files = [
        ("AWS_SHARED_CREDENTIALS_FILE", credentials.0.as_str()),
        ("AWS_CONFIG_FILE", config.0.as_str()),
    ];
    let keys = [("AWS_ACCESS_KEY_ID", "ENV"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let both: Vec<_> = files.iter().chain(&keys).copied().collect();
    let explicit = Settings {
        access_key: "INI".to_string(),
        secret_key: "s".to_string(),
        ..Settings::default()
    };
    let profile = |name: &str| Settings {
        profile: Some(name.to_string()),
        ..Settings::default()
    };
    assert_eq!(source(explicit, &both).unwrap().0, "INI");
    assert_eq!(source(Settings::default(), &both).unwrap().0, "ENV");
    let (key, place) = source(Settings::default(), &files).unwrap();
    assert_eq!(
        (key.as_str(), place),
        ("FILE", format!("{} [default]", credentials.0))
    );
    assert_eq!(source(profile("other"), &both).unwrap().0, "CONFIG");
    let named: Vec<_> = files.iter().copied().chain([("AWS_PROFILE", "other")]).collect();
    assert_eq!(source(Settings::default(), &named).unwrap().0, "CONFIG");
    assert!(matches!(
        source(profile("nobody"), &files),
        Err(Failure::Config(_))
    ));
    assert!(matches!(source(profile("half"), &files), Err(Failure::Config(_))));
    let half = [("AWS_ACCESS_KEY_ID", "ENV")];
    assert!(matches!(
        source(Settings::default(), &half),
        Err(Failure::Config(_))
    ));
    let failure = source(profile("sso"), &files).unwrap_err().to_string();
    assert!(
        failure.contains("profile sso: sso_session: autoscaler logs in nowhere"),
        "{failure}"
    );
}

#[test]
fn nothing_anywhere_names_every_place() {
    let failure = source(Settings::default(), &[("HOME", "/nonexistent")]).unwrap_err();
    let text = failure.to_string();
    for place in [
        "NoCredentials: [aws] of the configuration: empty",
        "AWS_ACCESS_KEY_ID: unset",
        "AWS_WEB_IDENTITY_TOKEN_FILE: unset",
        "/nonexistent/.aws/credentials [default]: absent",
        "/nonexistent/.aws/config [default]: absent",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, _FULL_URI: unset",
        "instance metadata http://127.0.0.1:9: ",
    ] {
        assert!(text.contains(place), "{place} in {text}");
    }
    let off = source(Settings::default(), &[("AWS_EC2_METADATA_DISABLED", "true")]).unwrap_err();
    assert!(off.to_string().contains("off by AWS_EC2_METADATA_DISABLED"));
}

#[test]
fn containers() {
    let fake = Fake::start(
        |_, request| match request.contains("authorization: Bearer x\r\n") {
            true => http(200, "", &role("2015-08-30T18:00:00Z")),
            false => http(401, "", ""),
        },
    );
    let url = format!("{}/creds", fake.url);
    let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str());
    let token = Scratch::new("token", "Bearer x\n");
    let file = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.0.as_str());
    assert_eq!(source(Settings::default(), &[full, file]).unwrap().0, "ROLEKEY");
    let direct = ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Bearer x");
    assert_eq!(source(Settings::default(), &[full, direct]).unwrap().0, "ROLEKEY");
    // A provider that is configured and refuses is an error, not passed by.
    assert!(matches!(
        source(Settings::default(), &[full]),
        Err(Failure::Credentials { .. })
    ));
    let far = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://192.0.2.1/");
    assert!(matches!(
        source(Settings::default(), &[far]),
        Err(Failure::Config(_))
    ));
}

#[test]
fn role_credentials_are_kept_refreshed_and_outlive_a_failed_refresh() {
    let fake = metadata("2015-08-30T13:36:00Z", 2); // an hour from NOW
    let settings = Settings {
        metadata_url: fake.url.clone(),
        ..Settings::default()
    };
    let provider = provider(settings, fake::env(&[]));
    let http = Http::default();
    let keys = provider.keys(NOW, &sts(&http, &nobody())).unwrap();
    assert_eq!(keys.source, "instance role app-role");
    assert_eq!(keys.expires, Some(NOW + 3600));
    assert!(!format!("{keys:?}").contains("secret"));
    assert_eq!(provider.tried().len(), 6);
    let calls = fake.count();
    provider.keys(NOW + 2000, &sts(&http, &nobody())).unwrap();
    assert_eq!(fake.count(), calls, "cached");
    provider.keys(NOW + 2800, &sts(&http, &nobody())).unwrap();
    assert_eq!(fake.count(), calls + 2, "refreshed, with the token kept");
    provider.keys(NOW + 2900, &sts(&http, &nobody())).unwrap();
    assert_eq!(fake.count(), calls + 2, "not twice within a minute");
    provider.forget();
    assert!(
        provider.keys(NOW, &sts(&http, &nobody())).is_err(),
        "nothing left to fall back on"
    );
}

#[test]
fn a_failed_refresh_keeps_the_old_ones_until_they_expire() {
    let fake = metadata("2015-08-30T13:36:00Z", 1);
    let settings = Settings {
        metadata_url: fake.url.clone(),
        ..Settings::default()
    };
    let provider = provider(settings, fake::env(&[]));
    let http = Http::default();
    provider.keys(NOW, &sts(&http, &nobody())).unwrap();
    assert_eq!(
        provider
            .keys(NOW + 3000, &sts(&http, &nobody()))
            .unwrap()
            .access_key,
        "ROLEKEY"
    );
}

#[test]
fn an_expired_imds_token_is_replaced_once() {
    let fake = Fake::start(|number, request| match number {
        0 => http(200, "", "first"),
        2 => http(401, "", ""),
        3 => http(200, "", "second"),
        4 if !request.contains("second") => http(401, "", ""),
        _ => http(200, "", "i-1\n"),
    });
    let imds = Imds::new(&fake.url, &fake::env(&[])).unwrap();
    assert_eq!(imds.instance_id().unwrap().as_deref(), Some("i-1"));
    assert_eq!(imds.instance_id().unwrap().as_deref(), Some("i-1"));
    assert_eq!(fake.count(), 5);
    assert!(
        fake.request(0)
            .contains("x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n")
    );
    let always = Fake::start(|_, request| match request.starts_with("PUT") {
        true => http(200, "", "t"),
        false => http(401, "", ""),
    });
    assert!(Imds::new(&always.url, &fake::env(&[])).unwrap().region().is_err());
    assert_eq!(always.count(), 2);
}

#[test]
fn a_token_request_without_answer_explains_the_hop_limit() {
    let fake = Fake::start(|_, _| Reply::Hang);
    let start = Instant::now();
    let none = Imds::new(&fake.url, &fake::env(&[]))
        .unwrap()
        .region()
        .unwrap_err();
    assert!(
        none.cause.contains("--http-put-response-hop-limit 2"),
        "{}",
        none.cause
    );
    assert_eq!(none.lack, Lack::Silent);
    assert!(start.elapsed() < Duration::from_millis(1900));
}

#[test]
fn absent_metadata_is_none_and_trouble_is_not() {
    let fake = Fake::start(|_, request| match request {
        r if r.starts_with("PUT") => http(200, "", "t"),
        r if r.contains("spot") => http(404, "", ""),
        _ => http(500, "", ""),
    });
    let imds = Imds::new(&fake.url, &fake::env(&[])).unwrap();
    assert_eq!(imds.get("meta-data/spot/instance-action").unwrap(), None);
    assert!(imds.region().unwrap_err().is_trouble());
    for (status, token) in [(403, ""), (200, "two words"), (200, "")] {
        let fake = Fake::start(move |_, _| http(status, "", token));
        assert!(Imds::new(&fake.url, &fake::env(&[])).unwrap().region().is_err());
    }
}

#[test]
fn region_and_endpoint() {
    let config = Scratch::new(
        "services",
        "[default]\nregion = ap-south-1\nservices = s\n[services s]\nec2 =\n  endpoint_url = http://own/\n",
    );
    let file = ("AWS_CONFIG_FILE", config.0.as_str());
    let identity = |settings: Settings, env: &[(&str, &str)]| {
        let settings = Settings {
            access_key: "A".to_string(),
            secret_key: "s".to_string(),
            ..settings
        };
        let found = Client::with_env(settings, fake::env(env)).unwrap().identity();
        found.map(|identity| (identity.region, identity.endpoint))
    };
    let is = |settings: Settings, env: &[(&str, &str)], region: &str, url: &str| {
        assert_eq!(
            identity(settings, env).unwrap(),
            (region.to_string(), url.to_string())
        );
    };
    let blank = Settings::default;
    is(blank(), &[file], "ap-south-1", "http://own/");
    is(
        blank(),
        &[
            file,
            ("AWS_REGION", "us-west-2"),
            ("AWS_ENDPOINT_URL", "http://env"),
        ],
        "us-west-2",
        "http://env/",
    );
    let both = [
        ("AWS_ENDPOINT_URL_EC2", "http://ec2"),
        ("AWS_ENDPOINT_URL", "http://all"),
    ];
    is(blank(), &[file, both[0], both[1]], "ap-south-1", "http://ec2/");
    let ignore = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
    is(
        blank(),
        &[file, both[0], ignore],
        "ap-south-1",
        "https://ec2.ap-south-1.amazonaws.com/",
    );
    let dual = ("AWS_USE_DUALSTACK_ENDPOINT", "true");
    is(
        blank(),
        &[("AWS_DEFAULT_REGION", "eu-west-1"), dual],
        "eu-west-1",
        "https://ec2.eu-west-1.api.aws/",
    );
    let fake = metadata("", 0);
    let explicit = |url: &str| Settings {
        endpoint_url: "http://ini/".to_string(),
        metadata_url: url.to_string(),
        ..Settings::default()
    };
    is(explicit(&fake.url), &both, "eu-west-3", "http://ini/");
    let failure = identity(explicit(NOBODY), &[]).unwrap_err();
    assert!(
        failure
            .to_string()
            .starts_with("no Region: set aws_default_region"),
        "{failure}"
    );
    let bundle = Settings {
        ca_bundle: "/nonexistent.pem".to_string(),
        region: "us-east-1".to_string(),
        ..Settings::default()
    };
    assert!(
        identity(bundle, &[])
            .unwrap_err()
            .to_string()
            .starts_with("CA bundle /nonexistent.pem: ")
    );
}
