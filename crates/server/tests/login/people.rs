//! People come, come again, and leave.

use serde_json::json;

use crate::browser::{Browser, parameter};
use crate::site::{Site, TARGET, on_all, on_sqlite};

#[test]
fn a_person_logs_in_and_is_a_tenant() {
    on_all(|site| {
        site.provider
            .person("ann@a.example", &json!({"picture": "https://pictures.example/ann.png"}));
        let mut browser = Browser::new();
        let token = site.log_in(&mut browser, "ann@a.example");
        let user = site.user(&token);
        let login = "ann@a.example@openid-connect";
        assert_eq!(user["login"], login);
        assert_eq!(user["email"], "ann@a.example");
        assert_eq!(user["avatarUrl"], "https://pictures.example/ann.png");
        assert_eq!(user["defaultTenant"]["createdBy"], login);
        // owner of the tenant that she is: she may do what only owners may
        let (status, made) = site.call(
            &token,
            "api.v2.ProjectService/Create",
            json!({"login": login, "name": "web"}),
        );
        assert_eq!(status, 200, "{made}");
        let (_, tokens) = site.call(&token, "api.v2.TokenService/List", json!({}));
        assert_eq!(tokens["tokens"][0]["tokenType"], "TOKEN_TYPE_USER", "{tokens}");
        let (_, audit) = site.call(&token, "api.v2.AuditService/List", json!({"login": login}));
        let text = audit.to_string();
        assert!(text.contains("/auth/openid-connect/callback") && !text.contains(&token), "{text}");
    });
}

/// Defect 29 of the original.
#[test]
fn defect_29_a_changed_avatar_does_not_break_the_login() {
    on_all(|site| {
        let name = "bob@a.example";
        let mut browser = Browser::new();
        for picture in ["https://p.example/1.png", "https://p.example/2.png", "no address at all"] {
            site.provider.person(name, &json!({ "picture": picture }));
            let user = site.user(&site.log_in(&mut browser, name));
            let shown =
                if picture.starts_with("https") { picture } else { "https://p.example/2.png" };
            assert_eq!(user["avatarUrl"], shown);
        }
    });
}

/// Defect 8 of the original, as far as logout goes.
#[test]
fn defect_8_logout_revokes_what_the_login_led_to_and_nothing_else() {
    on_all(|site| {
        let (mut browser, mut other) = (Browser::new(), Browser::new());
        let token = site.log_in(&mut browser, "cy@a.example");
        let elsewhere = site.log_in(&mut other, "cy@a.example");
        let (_, refreshed) = site.call(&token, "api.v2.TokenService/Refresh", json!({}));
        let refreshed = refreshed["secret"].as_str().expect("a secret").to_owned();
        let program = json!({"description": "ci", "expires": "3600s"});
        let (_, made) = site.call(&token, "api.v2.TokenService/Create", program);
        let seen = browser.get(&format!("{}/auth/logout/openid-connect", site.url));
        assert_eq!(seen.status, 303, "{seen:?}");
        let end = seen.location.expect("where the provider logs people out");
        assert!(end.starts_with(&format!("{}/session/end", site.provider.issuer)), "{end}");
        for gone in [&token, &refreshed] {
            let (status, answer) = site.call(gone, "api.v2.UserService/Get", json!({}));
            let why = answer["message"].as_str().unwrap_or_default();
            assert!(status == 401 && why.contains("revoked"), "{answer}");
        }
        site.user(&elsewhere);
        let (_, left) = site.call(&elsewhere, "api.v2.TokenService/List", json!({}));
        assert!(
            left.to_string().contains(made["token"]["uuid"].as_str().expect("an id")),
            "{left}"
        );
        // once more is no error
        let seen = browser.get(&format!("{}/auth/logout/openid-connect", site.url));
        assert_eq!(seen.status, 303);
    });
}

#[test]
fn two_logins_of_one_browser_at_the_same_time() {
    on_sqlite(
        |_, _| {},
        |site| {
            let mut browser = Browser::new();
            let issuer = site.provider.issuer.as_str();
            let first = browser.until(&site.start_url(TARGET), "di@a.example", issuer);
            let second = browser.until(&site.start_url(TARGET), "di@a.example", issuer);
            for back in [second, first] {
                let seen = browser.get(&back);
                assert!(
                    seen.location.is_some_and(|target| target.contains("token=")),
                    "{}",
                    seen.text
                );
            }
        },
    );
}

#[test]
fn the_web_console_is_where_people_go_who_name_no_target() {
    let console = |config: &mut server::auth::login::Config, _: &_| {
        config.front_end_url = Some("https://front.example".to_owned());
        config.end_session_url = Some("https://id.example/bye".to_owned());
    };
    on_sqlite(console, |site| {
        let mut browser = Browser::new();
        let start = format!("{}/auth/openid-connect", site.url);
        let between = [site.url.as_str(), &site.provider.issuer];
        let landed = browser.log_in(&start, "ed@a.example", &between).expect("a token");
        assert!(landed.starts_with("https://front.example/login/auth?token="), "{landed}");
        // what stood in the query of a target is replaced
        let target = "https://front.example/login/auth?token=x%26more=y";
        let landed = browser.log_in(&site.start_url(target), "ed@a.example", &between);
        let landed = landed.expect("a token");
        assert!(parameter(&landed, "token").is_some_and(|token| token.len() > 100), "{landed}");
        assert_eq!(parameter(&landed, "more"), None);
        let seen = browser.get(&format!("{}/auth/logout/openid-connect", site.url));
        assert_eq!(seen.location.as_deref(), Some("https://id.example/bye"));
    });
}

#[test]
fn people_are_told_apart_by_another_claim() {
    let subject = |config: &mut server::auth::login::Config, _: &_| {
        config.unique_user_key = "sub".to_owned();
    };
    on_sqlite(subject, |site: &Site| {
        site.provider.person("f17", &json!({"email": "f@a.example", "email_verified": false}));
        let user = site.user(&site.log_in(&mut Browser::new(), "f17"));
        assert_eq!(user["login"], "f17@openid-connect");
        assert!(user.get("email").is_none_or(|email| email == ""), "{user}");
    });
}
