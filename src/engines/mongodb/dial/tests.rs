use super::*;

fn dial(url: &str) -> Result<Dial, MongoError> {
    Dial::resolve(&Secret::new(url))
}

#[test]
fn a_url_is_shown_without_its_credentials() {
    let dial = dial("mongodb://u:p%40ss@a:1,b:2/shop?authSource=admin").unwrap();
    assert_eq!((dial.describe(), dial.database()), ("a:1,b:2", "shop"));
    assert!(!format!("{dial:?}").contains("ss"));
}

#[test]
fn a_url_without_a_database_is_refused_with_what_to_write() {
    let error = dial("mongodb://a/").unwrap_err();
    assert!(matches!(error, MongoError::NoDatabase));
    assert!(error.hint().unwrap().contains("/DATABASE"));
}

#[test]
fn no_error_shows_a_secret() {
    for url in [
        "mongodb://us@er:q9zsecretz9q@a/shop",
        "mongodb://user:q9z@secretz9q@a/shop",
        "mongodb://user:q9zsecretz9q%@a/shop",
        "mongodb://user:q9zsecretz9q@a:port/shop",
        "mongodb://user:q9zsecretz9q@a/shop?nonsense",
        "mongodb://user:q9zsecretz9q@/shop",
        "mongodb://user:q9zsecretz9q?x@h/shop",
        "mongodb+srv://user:q9zsecretz9q?x@h/shop",
        "mongodb://user:q9zsecretz9q/x?y@h/shop",
        "mongodb://h/shop?authMechanismProperties=AWS_SESSION_TOKEN=q9zsecretz9q",
    ] {
        if let Err(error) = dial(url) {
            assert!(!format!("{error} {error:?}").contains("q9z"), "{error}");
        }
    }
}

#[test]
fn an_option_that_the_driver_does_not_take_is_named() {
    for (options, named) in [
        ("compressors=lzma&tls=true", "compressors"),
        ("tls=true&authMechanism=GSSAPY", "authMechanism"),
        ("replicaSet=rs0&directConection=true", "directConection"),
        ("tls=perhaps", "tls"),
    ] {
        let error = dial(&format!("mongodb://user:q9zsecretz9q@a:1/shop?{options}"));
        let error = error.unwrap_err().to_string();
        assert!(error.contains(&format!("`{named}`")), "{options}: {error}");
        assert!(!error.contains("q9z"), "{error}");
    }
    // What may be a piece of a password is not repeated.
    let error = dial("mongodb://user:123?q9zword=x@h/shop").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("q9z"), "{error}");
}

#[tokio::test]
async fn what_is_written_is_read_from_the_primary_whatever_the_url_prefers() {
    let url = "mongodb://127.0.0.1/d?readPreference=secondaryPreferred&readPreferenceTags=dc:a,use:report&readPreferenceTags=&w=0&journal=false&readConcernLevel=available";
    let dial = dial(url).unwrap();
    let (options, _) = dial.options("maint").await.unwrap();
    assert!(options.selection_criteria.is_none());
    assert!(options.write_concern.is_none() && options.read_concern.is_none());
    assert!(dial.prefers_secondaries());
    assert_eq!(dial.tag_sets().len(), 2);
    assert_eq!(dial.tag_sets()[0].get("use").unwrap(), "report");
    assert!(
        !super::Dial::resolve(&Secret::new("mongodb://a/d?readPreference=primary"))
            .unwrap()
            .prefers_secondaries()
    );
}

#[tokio::test]
async fn who_comes_with_a_certificate_is_who_that_says() {
    let url = "mongodb://CN%3Dmaint%2COU%3Ddba@127.0.0.1/d?authMechanism=MONGODB-X509&authSource=$external&tls=true";
    let (options, _) = dial(url).unwrap().options("maint").await.unwrap();
    let credential = options.credential.unwrap();
    assert_eq!(credential.username, None);
    assert_eq!(credential.source.as_deref(), Some("$external"));
    // A password stays with its name.
    let url = "mongodb://maint:x@127.0.0.1/d?authSource=admin";
    let (options, _) = dial(url).unwrap().options("maint").await.unwrap();
    assert_eq!(
        options.credential.unwrap().username.as_deref(),
        Some("maint")
    );
}

#[test]
fn what_is_not_verified_and_what_cannot_be_opened_is_said() {
    let insecure = dial("mongodb://a/d?tls=true&tlsAllowInvalidCertificates=true").unwrap();
    assert!(insecure.warnings()[0].contains("not verified"));
    assert!(
        dial("mongodb://a/d?tls=true")
            .unwrap()
            .warnings()
            .is_empty()
    );
    let url =
        "mongodb://a/d?tls=true&tlsCertificateKeyFile=/x.pem&tlsCertificateKeyFilePassword=q9z";
    let error = dial(url).unwrap_err().to_string();
    assert!(
        error.contains("openssl pkey") && !error.contains("q9z"),
        "{error}"
    );
    // No words of the driver's own make.
    let gone = dial("mongodb://a/d?tls=true&tlsCAFile=/no/such.pem").unwrap();
    assert!(gone.warnings()[0].contains("/no/such.pem: there is no such file"));
}

#[tokio::test]
async fn every_compressor_of_the_server_is_understood() {
    for name in ["snappy", "zlib", "zstd", "snappy,zlib,zstd"] {
        let url = format!("mongodb://127.0.0.1/d?compressors={name}");
        let (options, _) = dial(&url).unwrap().options("maint").await.unwrap();
        let many = options.compressors.unwrap().len();
        assert_eq!(many, name.split(',').count(), "{name}");
    }
}

#[tokio::test]
async fn tls_is_the_default_beyond_this_machine() {
    for (url, tls, by_default) in [
        ("mongodb://127.0.0.1/d", false, false),
        ("mongodb://localhost,[::1]:2/d", false, false),
        ("mongodb://db.example/d", true, true),
        ("mongodb://localhost,db.example/d", true, true),
        ("mongodb://db.example/d?tls=false", false, false),
        ("mongodb://127.0.0.1/d?tls=true", true, false),
    ] {
        let (options, assumed) = dial(url).unwrap().options("maint").await.unwrap();
        let enabled = matches!(options.tls, Some(Tls::Enabled(_)));
        assert_eq!((enabled, assumed), (tls, by_default), "{url}");
    }
}
