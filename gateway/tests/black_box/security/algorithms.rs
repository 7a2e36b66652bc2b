//! Signatures: each algorithm opens with its own key only, and no token chooses how it is verified.

use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::credentials::{Issuer, base64url, claims, der_of, key_set, sending_claims, signed, unsigned};
use super::doors::{Door, Verdict};
use super::key_server::KeyServer;
use super::secured::Secured;

/// What a forged token says: everything that a good one would.
fn wanted() -> Value {
    sending_claims("bob")
}

/// Shows forged tokens at every door of a gateway: none opens, and each is counted.
async fn refuses_everywhere(secured: &Secured, forged: &[(String, String)]) {
    let place = secured.place("bob").await;
    let mut wrong = Vec::new();
    for (what, token) in forged {
        let before = secured.refused().await;
        wrong.extend(place.unlike(Verdict::Unauthorized, &Door::ALL, what, Some(token)).await);
        let counted = secured.refused().await - before;
        if counted != Door::ALL.len() as f64 {
            wrong.push(format!("{what}: {counted} of {} refusals were counted", Door::ALL.len()));
        }
    }
    // The control: it was not the place that was wrong.
    let good = secured.issuer.token(&wanted());
    wrong.extend(place.unlike(Verdict::Open, &Door::ALL, "a good token", Some(&good)).await);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_each_algorithm_opens_every_door() {
    for issuer in Issuer::each() {
        let name = issuer.name;
        let secured = Secured::start_with(issuer, |_, _| {}).await;
        let token = secured.issuer.token(&wanted());
        let place = secured.place("bob").await;
        let wrong = place.unlike(Verdict::Open, &Door::ALL, name, Some(&token)).await;
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert_eq!(secured.refused().await, 0.0, "{name}");
        secured.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_knows_keys_of_several_algorithms_at_once() {
    let others = [Issuer::rs256(), Issuer::es256(), Issuer::eddsa(), Issuer::hs256()];
    let secured = Secured::start_with(Issuer::hs256(), |config, folder| {
        for (number, issuer) in others.iter().enumerate() {
            config.auth.token_key_files.push(folder.write(&format!("{number}.key"), &issuer.file).into());
        }
    })
    .await;
    let place = secured.place("bob").await;
    let mut wrong = Vec::new();
    for issuer in others.iter().chain([&secured.issuer]) {
        let token = issuer.token(&wanted());
        wrong.extend(place.unlike(Verdict::Open, &[Door::Pull], issuer.name, Some(&token)).await);
        let stranger = match issuer.name {
            "HS256" => Issuer::hs256(),
            "RS256" => Issuer::rs256(),
            "ES256" => Issuer::es256(),
            _ => Issuer::eddsa(),
        };
        let token = stranger.token(&wanted());
        wrong.extend(place.unlike(Verdict::Unauthorized, &[Door::Pull], issuer.name, Some(&token)).await);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(secured.refused_because("signature").await, 5.0);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_without_a_signature_opens_nothing() {
    for issuer in [Issuer::hs256(), Issuer::es256()] {
        let secured = Secured::start_with(issuer, |_, _| {}).await;
        let genuine = secured.issuer.token(&wanted());
        let (_, signature) = genuine.rsplit_once('.').unwrap();
        let mut forged = Vec::new();
        for algorithm in ["none", "None", "NONE", "nOnE", "", "null", "plain"] {
            let message = unsigned(&json!({"alg": algorithm, "typ": "JWT"}), &wanted());
            forged.push((format!("alg {algorithm:?}"), format!("{message}.")));
            forged.push((format!("alg {algorithm:?} in two parts"), message.clone()));
            forged.push((format!("alg {algorithm:?} with a signature"), format!("{message}.{signature}")));
        }
        for header in [json!({"typ": "JWT"}), json!({"alg": null}), json!({"alg": ["none"]}), json!([])] {
            let message = unsigned(&header, &wanted());
            forged.push((format!("header {header}"), format!("{message}.")));
            forged.push((format!("header {header} with a signature"), format!("{message}.{signature}")));
        }
        let own = unsigned(&json!({"alg": secured.issuer.name}), &wanted());
        forged.push(("an empty signature".to_owned(), format!("{own}.")));
        refuses_everywhere(&secured, &forged).await;
        secured.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_public_key_is_no_secret() {
    let modes: [(fn() -> Issuer, bool); 6] = [
        (Issuer::rs256, false),
        (Issuer::rs256, true),
        (Issuer::es256, false),
        (Issuer::es256, true),
        (Issuer::eddsa, false),
        (Issuer::eddsa, true),
    ];
    for (issuer, beside_a_secret) in modes {
        // Beside a secret HS256 itself is allowed, which is where the trap lies.
        let other = Issuer::hs256();
        let secured = Secured::start_with(issuer(), |config, folder| {
            if beside_a_secret {
                config.auth.token_key_files.push(folder.write("secret.key", &other.file).into());
            }
        })
        .await;
        let pem = secured.issuer.file.clone();
        let raw = secured.issuer.pair.as_ref().map(KeyPair::public_key_raw).unwrap().to_vec();
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let secrets = [
            ("the file", pem.clone().into_bytes()),
            ("the file without its end of line", pem.trim_end().as_bytes().to_vec()),
            ("the file with other ends of line", pem.replace('\n', "\r\n").into_bytes()),
            ("the DER", der_of(&pem)),
            ("the key within the DER", raw),
            ("the base64", body.into_bytes()),
            ("nothing", b"".to_vec()),
            ("a zero", vec![0]),
        ];
        let header = json!({"alg": "HS256", "typ": "JWT"});
        let mut forged = Vec::new();
        for (what, secret) in secrets {
            let key = EncodingKey::from_secret(&secret);
            let what = format!("{} with {what} as its secret", secured.issuer.name);
            forged.push((what.clone(), signed(&header, &wanted(), &key, Algorithm::HS256)));
            // The header still says what the key is for.
            let header = json!({"alg": secured.issuer.name});
            forged.push((format!("disguised {what}"), signed(&header, &wanted(), &key, Algorithm::HS256)));
        }
        refuses_everywhere(&secured, &forged).await;
        secured.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_algorithm_of_the_same_family_opens_nothing() {
    use Algorithm::{ES256, HS256, HS384, HS512, PS256, PS384, PS512, RS384, RS512};
    let families = [
        (Issuer::hs256(), vec![("HS384", HS384), ("HS512", HS512)]),
        (
            Issuer::rs256(),
            vec![("RS384", RS384), ("RS512", RS512), ("PS256", PS256), ("PS384", PS384), ("PS512", PS512)],
        ),
    ];
    for (issuer, siblings) in families {
        let secured = Secured::start_with(issuer, |_, _| {}).await;
        let mut forged = Vec::new();
        for (name, algorithm) in siblings {
            let key = &secured.issuer.key;
            forged.push((name.to_owned(), signed(&json!({"alg": name}), &wanted(), key, algorithm)));
            let lying = signed(&json!({"alg": secured.issuer.name}), &wanted(), key, algorithm);
            forged.push((format!("{name} under the right name"), lying));
        }
        refuses_everywhere(&secured, &forged).await;
        secured.stop().await;
    }
    let secured = Secured::start_with(Issuer::es256(), |_, _| {}).await;
    let names = ["ES384", "ES512", "ES256K", "es256", "ES256 "];
    let sign = |name: &&str| signed(&json!({"alg": name}), &wanted(), &secured.issuer.key, ES256);
    let mut forged: Vec<_> = names.iter().map(|name| (format!("{name:?}"), sign(name))).collect();
    let secret = EncodingKey::from_secret(&[0; 32]);
    forged.push(("zeros".to_owned(), signed(&json!({"alg": "ES256"}), &wanted(), &secret, HS256)));
    // The signature of CVE-2022-21449: both numbers are zero.
    let message = unsigned(&json!({"alg": "ES256"}), &wanted());
    forged.push(("r = s = 0".to_owned(), format!("{message}.{}", base64url(&[0; 64]))));
    refuses_everywhere(&secured, &forged).await;
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_changed_opens_nothing() {
    for issuer in Issuer::each() {
        let secured = Secured::start_with(issuer, |_, _| {}).await;
        let of_alice = secured.issuer.token(&sending_claims("alice"));
        let parts: Vec<&str> = of_alice.split('.').collect();
        let [header, claims_part, signature] = parts[..] else { panic!("three parts") };
        let bobs = base64url(wanted().to_string().as_bytes());
        let flipped = |at: usize| {
            let mut bytes = signature.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            String::from_utf8(bytes).unwrap()
        };
        let good = secured.issuer.token(&wanted());
        let forged = [
            ("other claims", format!("{header}.{bobs}.{signature}")),
            ("a changed signature", format!("{header}.{claims_part}.{}", flipped(3))),
            ("half a signature", format!("{header}.{claims_part}.{}", &signature[..signature.len() / 2])),
            ("a longer signature", format!("{good}AAAA")),
            ("a fourth part", format!("{good}.{signature}")),
            ("five parts, as if encrypted", format!("{good}.{header}.{header}")),
            ("a dot at the end", format!("{good}.")),
            ("a dot before", format!(".{good}")),
            ("parts that changed places", format!("{claims_part}.{header}.{signature}")),
            ("only dots", "..".to_owned()),
            ("an empty object", format!("e30.e30.{signature}")),
            ("no JSON", format!("{header}.{}.{signature}", base64url(b"not json"))),
            ("padding", format!("{good}=")),
        ];
        let forged = forged.map(|(what, token)| (format!("{} with {what}", secured.issuer.name), token));
        refuses_everywhere(&secured, &forged).await;
        assert!(secured.refused_because("signature").await >= 2.0 * Door::ALL.len() as f64);
        secured.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_brings_its_own_key_opens_nothing_and_nobody_fetches_it() {
    let stranger = Issuer::es256();
    let tempting = KeyServer::start(&key_set(&[stranger.jwk("k1")])).await;
    let secured = Secured::start_with(Issuer::es256(), |_, _| {}).await;
    let url = tempting.url();
    let mut forged = Vec::new();
    for header in [
        json!({"alg": "ES256", "jwk": stranger.jwk("k1")}),
        json!({"alg": "ES256", "jku": url, "kid": "k1"}),
        json!({"alg": "ES256", "x5u": url}),
        json!({"alg": "ES256", "x5c": [base64url(&der_of(&stranger.file))]}),
        json!({"alg": "ES256", "kid": url}),
        json!({"alg": "ES256", "kid": "../../../../dev/null"}),
        json!({"alg": "ES256", "iss": url}),
    ] {
        forged.push((header.to_string(), stranger.token_with(&header, &wanted())));
    }
    refuses_everywhere(&secured, &forged).await;
    assert_eq!(tempting.fetched(), 0, "a token tells nobody where to ask");
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_a_set_verifies_only_tokens_that_name_it() {
    let [first, second, stranger] = [Issuer::es256(), Issuer::rs256(), Issuer::es256()];
    let symmetric = Issuer::hs256();
    let mut public_secret = symmetric.jwk("s1");
    public_secret["k"] = json!(base64url(symmetric.file.trim().as_bytes()));
    let set = key_set(&[first.jwk("k1"), second.jwk("k2"), stranger.jwk("k3"), public_secret]);
    let secured = Secured::start_with(Issuer::eddsa(), |config, folder| {
        config.auth.jwks = Some(folder.write("keys.json", &set));
    })
    .await;
    let place = secured.place("bob").await;
    let mut wrong = Vec::new();
    for (what, token) in [
        ("k1", first.token_of_key("k1", &claims("bob"))),
        ("k2", second.token_of_key("k2", &claims("bob"))),
        ("the key file's", secured.issuer.token(&claims("bob"))),
    ] {
        wrong.extend(place.unlike(Verdict::Open, &Door::RECEIVING, what, Some(&token)).await);
    }
    let header = json!({"alg": "HS256", "kid": "s1"});
    let forged = [
        ("another key of its kind".to_owned(), first.token_of_key("k3", &wanted())),
        ("a key of another kind".to_owned(), first.token_of_key("k2", &wanted())),
        ("an unknown key".to_owned(), first.token_of_key("k9", &wanted())),
        ("no name of a key".to_owned(), Issuer::es256().token(&wanted())),
        // Whoever can read the set could sign with it.
        ("a secret that the set publishes".to_owned(), symmetric.token_with(&header, &wanted())),
        ("the same without its name".to_owned(), symmetric.token(&wanted())),
    ];
    refuses_everywhere(&secured, &forged).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(secured.refused_because("unknown_signer").await >= Door::ALL.len() as f64);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_with_a_demand_that_nobody_understands_opens_nothing() {
    // RFC 7515 §4.1.11: whoever does not understand what is critical has to refuse.
    let secured = Secured::start_with(Issuer::es256(), |_, _| {}).await;
    let headers = [
        json!({"alg": "ES256", "crit": ["exp"]}),
        json!({"alg": "ES256", "crit": ["b64"], "b64": false}),
        json!({"alg": "ES256", "crit": ["https://example.org/x"], "https://example.org/x": true}),
        json!({"alg": "ES256", "crit": []}),
    ];
    let sign = |header: &Value| (header.to_string(), secured.issuer.token_with(header, &wanted()));
    refuses_everywhere(&secured, &headers.iter().map(sign).collect::<Vec<_>>()).await;
    secured.stop().await;
}
