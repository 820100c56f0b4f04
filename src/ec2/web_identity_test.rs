//! AssumeRoleWithWebIdentity against an STS on loopback.

use super::fake::{self, Fake, http};
use super::http::Http;
use super::provider_test::{NOW, Scratch, provider, source, sts};
use super::{Failure, Settings, endpoint};

#[test]
fn a_web_identity_is_exchanged_for_a_role() {
    let token = Scratch::new("token", "e30.e30.c2ln\n");
    let server = Fake::start(|number, _| match number {
        // Busy at first.
        0 => fake::error(503, "ServiceUnavailable"),
        1 => http(
            200,
            "",
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
             <AccessKeyId>WEBKEY</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
             <SessionToken>t</SessionToken><Expiration>2015-08-30T13:36:00Z</Expiration></Credentials>\
             </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
        ),
        2 => fake::error(403, "AccessDenied"),
        _ => fake::error(400, "InvalidIdentityToken"),
    });
    let at = endpoint::split(&server.url).unwrap();
    let env = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.0.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/web"),
    ];
    let provider = provider(Settings::default(), fake::env(&env));
    let keys = provider.keys(NOW, &sts(&Http::default(), &at)).unwrap();
    let text = (
        keys.access_key.as_str(),
        keys.token.as_str(),
        keys.source.as_str(),
    );
    assert_eq!(
        text,
        ("WEBKEY", "t", "web identity arn:aws:iam::123456789012:role/web")
    );
    assert_eq!(keys.expires, Some(NOW + 3600));
    let sent = server.request(1).to_ascii_lowercase();
    assert!(!sent.contains("authorization"), "{sent}");
    assert!(sent.ends_with(
        "\r\n\r\naction=assumerolewithwebidentity&version=2011-06-15&rolearn=arn%3aaws%3aiam%3a%3a123456789012%3arole\
         %2fweb&rolesessionname=autoscaler&webidentitytoken=e30.e30.c2ln"
    ));
    for step in [
        "allow sts:AssumeRoleWithWebIdentity in the role's trust policy",
        "see to the token's file",
    ] {
        provider.forget();
        let failure = provider.keys(NOW, &sts(&Http::default(), &at)).unwrap_err();
        assert!(matches!(failure, Failure::Credentials { .. }), "{failure:?}");
        assert!(failure.to_string().contains(step), "{failure}");
        assert!(!failure.to_string().contains("e30"), "{failure}");
    }
    let half = source(Settings::default(), &env[..1]).unwrap_err();
    assert!(half.to_string().contains("AWS_ROLE_ARN is missing"), "{half}");
}
